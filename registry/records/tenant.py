"""Tenants: whose a model is, the keys that open the doors for a tenant, and the quotas that bound it.

Inside the platform a model is known by its qualified name: ``m`` for the tenant ``default``, ``acme.m`` for the tenant
``acme``. Names that clients give hold no dot, so a qualified name is never ambiguous and never reachable by a client.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from registry.records.base import Digest, ModelName, Record

TENANT_HEADER = "x-burnish-tenant"
"""Header and gRPC metadata by which the gateway, and nobody else, tells the engine whose request it is."""

DEFAULT_TENANT = "default"
"""The tenant that always exists; on a laptop everything belongs to it."""

_SEPARATOR = "."

_MOST = 2**62

TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
"""A tenant's name: lowercase letters, digits and '-', at most 31 characters."""

QUALIFIED = "qualified name"
"""Marks the fields that hold one, so that a door can tell them from other text."""

_QUALIFIED_PATTERN = r"^([a-z0-9][a-z0-9-]{0,30}\.)?[a-z0-9][a-z0-9_-]{0,62}$"
QualifiedName = Annotated[str, StringConstraints(pattern=_QUALIFIED_PATTERN, max_length=95), QUALIFIED]
"""A model's name inside the platform: the model's name, after its tenant and a dot unless that is ``default``."""

KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
"""What names a key in lists and in the audit; it opens nothing."""


def qualified(tenant: str, model: str) -> str:
    """Return the name by which the platform knows a tenant's model."""
    return model if tenant == DEFAULT_TENANT else f"{tenant}{_SEPARATOR}{model}"


def split_name(name: str) -> tuple[str, str]:
    """Return tenant and model of a qualified name."""
    tenant, separator, model = name.partition(_SEPARATOR)
    return (tenant, model) if separator else (DEFAULT_TENANT, name)


def is_qualified(text: str) -> bool:
    """True if a text may be a qualified name."""
    return re.fullmatch(_QUALIFIED_PATTERN, text) is not None


class Scope(StrEnum):
    """What a key may do; each stands alone."""

    PREDICT = "predict"  # inference at the gateway, feedback at the control API
    DEPLOY = "deploy"  # read and change the tenant's models
    ADMIN = "admin"  # the tenant's keys, audit and usage; of the tenant `default`: the operator


class TenantState(StrEnum):
    """Whether the gateway lets a tenant's requests through."""

    OPEN = "open"
    DRAINING = "draining"  # no new connections; what is open finishes
    BLOCKED = "blocked"


class Quotas(Record):
    """The most that a tenant may have; None: no bound."""

    models: int | None = Field(default=None, ge=0, le=_MOST)
    versions: int | None = Field(default=None, ge=0, le=_MOST, description="Over all models.")
    stored_bytes: int | None = Field(default=None, ge=0, le=_MOST, description="Uploads and the artifacts of versions.")
    resident_bytes: int | None = Field(
        default=None,
        ge=0,
        le=_MOST,
        description="Memory of loaded versions in all workers, each of which keeps to its part.",
    )
    # What Envoy's token buckets can hold: one that it refused would keep every tenant's keys from changing.
    requests_per_s: float | None = Field(default=None, ge=1e-6, le=1e6)
    burst: int | None = Field(
        default=None, ge=1, le=10**9, description="Requests that may come at once; None: one second's."
    )
    bytes_per_s: int | None = Field(default=None, ge=1, lt=2**32, description="Of request bodies.")


class Tenant(Record):
    """A name space with its quotas."""

    name: TenantName
    quotas: Quotas = Quotas()
    state: TenantState = TenantState.OPEN
    made_at: datetime


class ApiKey(Record):
    """All that the ledger knows of a key; its plain text is not among it."""

    id: KeyId
    tenant: TenantName
    sha256: Digest = Field(repr=False)
    scopes: tuple[Scope, ...] = Field(min_length=1)
    label: str = Field(default="", max_length=200)
    made_at: datetime
    expires_at: datetime | None = Field(default=None, description="Set by a rotation: the old key's last moment.")
    revoked_at: datetime | None = None

    def holds_at(self, moment: datetime) -> bool:
        """True if the key opens anything at a moment."""
        return self.revoked_at is None and (self.expires_at is None or moment < self.expires_at)


class Counters(Record):
    """What is counted of a model's requests."""

    requests: int = Field(ge=0, le=_MOST)
    failed: int = Field(ge=0, le=_MOST)
    compute_ns: int = Field(ge=0, le=_MOST)
    received_bytes: int = Field(ge=0, le=_MOST)
    sent_bytes: int = Field(ge=0, le=_MOST)


class ModelUsage(Counters):
    """What one model did for its tenant in one hour: what a bill is made of."""

    tenant: TenantName
    model: ModelName
    hour: datetime
