"""API keys in the ledger: their hashes, never their text."""

from datetime import datetime

import sqlalchemy as sa

from registry.errors import ModelNotFound
from registry.ledger.database import Database
from registry.ledger.tables import API_KEYS, TENANTS
from registry.records.tenant import ApiKey

_BY_ID = sa.select(API_KEYS).where(API_KEYS.c.id == sa.bindparam("id"))


class ApiKeys:
    """All keys of one ledger, those that no longer hold among them."""

    def __init__(self, database: Database) -> None:
        """Use a ledger's database."""
        self._database = database

    def add(self, key: ApiKey) -> None:
        """Keep a new key.

        Raises:
            ModelNotFound: there is no such tenant.
        """
        locked = sa.select(TENANTS.c.name).where(TENANTS.c.name == key.tenant).with_for_update()
        with self._database.write() as connection:
            if connection.execute(locked).first() is None:
                raise ModelNotFound(f"there is no tenant {key.tenant!r}; `burnish tenant list` shows those there are")
            connection.execute(sa.insert(API_KEYS).values(key.model_dump() | {"scopes": list(key.scopes)}))

    def find(self, key_id: str) -> ApiKey | None:
        """Return a key by its id."""
        with self._database.read() as connection:
            row = connection.execute(_BY_ID, {"id": key_id}).one_or_none()
        return None if row is None else _key(row)

    def all(self, tenant: str | None = None) -> tuple[ApiKey, ...]:
        """Return the keys of one tenant or of all, oldest first."""
        query = sa.select(API_KEYS).order_by(API_KEYS.c.made_at, API_KEYS.c.id)
        if tenant is not None:
            query = query.where(API_KEYS.c.tenant == tenant)
        with self._database.read() as connection:
            return tuple(_key(row) for row in connection.execute(query))

    def expire(self, key_id: str, at: datetime) -> None:
        """Let a key hold until a moment; one that ends earlier still does."""
        later = sa.or_(API_KEYS.c.expires_at.is_(None), API_KEYS.c.expires_at > at)
        self._update(sa.and_(API_KEYS.c.id == key_id, later), expires_at=at)

    def revoke(self, key_id: str, at: datetime) -> None:
        """Let a key open nothing from a moment on; a second revocation changes nothing."""
        self._update(sa.and_(API_KEYS.c.id == key_id, API_KEYS.c.revoked_at.is_(None)), revoked_at=at)

    def _update(self, which: sa.ColumnElement[bool], **values: datetime) -> None:
        with self._database.write() as connection:
            connection.execute(sa.update(API_KEYS).where(which).values(values))


def _key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey.model_validate(dict(row._mapping))
