"""Keys that are made, rotated and revoked; the gateway is told at once, and by the reconciler of what expired."""

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from registry.errors import InputError, ModelNotFound, RegistryError
from registry.file_lock import file_lock
from registry.ledger.ledger import Ledger
from registry.records.tenant import ApiKey, Scope, Tenant
from serving.gateway.tenants import GatewayKey, GatewayTenant, set_tenants

KEYS_FILE = "keys.json"
_KEY = re.compile(r"bn_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_ID_BYTES = 6
_SECRET_BYTES = 32


@dataclass(frozen=True)
class MadeKey:
    """A new key and its text, which is shown once and kept in the gateway's own file alone."""

    key: ApiKey
    text: SecretStr


class KeyRing:
    """The keys of all tenants: hashes in the ledger, texts in one file beside the gateway's, for its owner alone."""

    def __init__(self, ledger: Ledger, folder: Path, *, require_keys: bool) -> None:
        """Use a ledger and the folder of the gateway's files; without ``require_keys`` it lets in who has no key."""
        self._ledger = ledger
        self._folder = folder
        self._require_keys = require_keys
        self._told: tuple[GatewayTenant, ...] | None = None

    def make(self, tenant: str, scopes: Collection[Scope], label: str) -> MadeKey:
        """Make a key that holds until it is revoked; ledger and gateway know it when this returns.

        Raises:
            ModelNotFound: there is no such tenant.
            InputError: no scope is named.
        """
        if not scopes:
            raise InputError(f"a key needs at least one scope of {', '.join(Scope)}")
        identity = secrets.token_hex(_ID_BYTES)
        text = f"bn_{identity}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        key = ApiKey(
            id=identity,
            tenant=tenant,
            sha256=sha256(text.encode()).hexdigest(),
            scopes=tuple(scope for scope in Scope if scope in scopes),
            label=label,
            made_at=datetime.now(UTC),
        )
        self._ledger.keys.add(key)
        made = MadeKey(key, SecretStr(text))
        self.tell(made)
        return made

    def rotate(self, tenant: str, identity: str, overlap: timedelta) -> MadeKey:
        """Make a key like another one, which ends when the overlap is over.

        Raises:
            ModelNotFound: the tenant has no such key.
            InputError: the key does not hold any more.
        """
        old = self.find(tenant, identity)
        if not old.holds_at(datetime.now(UTC)):
            raise InputError(f"the key {identity} does not hold any more; make a new one")
        made = self.make(old.tenant, old.scopes, old.label)
        self._ledger.keys.expire(identity, made.key.made_at + overlap)
        self.tell()
        return made

    def revoke(self, tenant: str, identity: str) -> ApiKey:
        """Let a key open nothing from now on, at the control API and at the gateway.

        Raises:
            ModelNotFound: the tenant has no such key.
        """
        self.find(tenant, identity)
        self._ledger.keys.revoke(identity, datetime.now(UTC))
        self.tell()
        return self.find(tenant, identity)

    def find(self, tenant: str, identity: str) -> ApiKey:
        """Return a key of a tenant.

        Raises:
            ModelNotFound: the tenant has none of this id.
        """
        key = self._ledger.keys.find(identity)
        if key is None or key.tenant != tenant:
            raise ModelNotFound(f"there is no key {identity!r}; `burnish key list` shows those there are")
        return key

    def tell(self, made: MadeKey | None = None) -> bool:
        """Tell the gateway the tenants and keys that hold now; False if it was told just these before.

        Args:
            made: a new key, whose text is not in the file yet.
        """
        with file_lock(self._folder.with_name(f"{self._folder.name}.lock")):
            texts = self._read_texts()
            if made is not None:
                texts[made.key.id] = made.text.get_secret_value()
            now = datetime.now(UTC)
            keys = [key for key in self._ledger.keys.all() if key.holds_at(now) and key.id in texts]
            self._write_texts({key.id: texts[key.id] for key in keys})
            tenants = tuple(_gateway_tenant(tenant, keys, texts) for tenant in self._ledger.tenants.all())
            if tenants == self._told:
                return False
            set_tenants(self._folder, tenants, require_keys=self._require_keys)
            self._told = tenants
            return True

    def _read_texts(self) -> dict[str, str]:
        file = self._folder / KEYS_FILE
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise RegistryError(f"{file} is damaged; remove it, and rotate the keys that it held") from error
        return dict(found)

    def _write_texts(self, texts: Mapping[str, str]) -> None:
        """Replace the file by rename; the draft is new, so that nobody has it open with other rights."""
        if texts == self._read_texts():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{KEYS_FILE}.new"
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(texts, indent=1), encoding="utf-8")
        draft.replace(self._folder / KEYS_FILE)


def key_id(text: str) -> str:
    """Return the id in a key's text; empty if the text is no key's."""
    found = _KEY.fullmatch(text)
    return found[1] if found else ""


def _gateway_tenant(tenant: Tenant, keys: Iterable[ApiKey], texts: Mapping[str, str]) -> GatewayTenant:
    return GatewayTenant(
        name=tenant.name,
        keys=tuple(
            GatewayKey(id=key.id, key=SecretStr(texts[key.id]), scopes=key.scopes)
            for key in keys
            if key.tenant == tenant.name
        ),
        requests_per_s=tenant.quotas.requests_per_s,
        burst=tenant.quotas.burst,
        bytes_per_s=tenant.quotas.bytes_per_s,
        state=tenant.state,
    )
