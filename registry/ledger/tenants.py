"""Tenants in the ledger, what they own, and how much of it there is."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from registry.errors import InputError, ModelNotFound, VersionConflict
from registry.ledger.database import Database, insert_if_absent
from registry.ledger.tables import API_KEYS, ARTIFACT_OWNERS, AUDIT, OPTIMIZATIONS, SERVED_VERSIONS, TENANTS, USAGE
from registry.records.release import OptimizationStatus
from registry.records.tenant import DEFAULT_TENANT, Quotas, Tenant, TenantState, qualified, split_name

ESCAPE = "/"
"""What stands before a character that LIKE shall take as it is."""

_LOOKED_AT = 1000
"""Of the newest optimizations: those that still run are among them."""


@dataclass(frozen=True)
class Holdings:
    """What counts against a tenant's quotas."""

    models: int
    versions: int
    stored_bytes: int


@dataclass(frozen=True)
class Shortage:
    """A quota that is used up, and what was asked beyond it."""

    quota: str
    used: int
    limit: int
    more: int

    def __str__(self) -> str:
        """Say it as the tenant is told."""
        use = f"{self.used} of {self.limit}, and {self.more} more asked"
        return f"the quota {self.quota} of this tenant is used up: {use}"


class Tenants:
    """All tenants of one ledger."""

    def __init__(self, database: Database) -> None:
        """Use a ledger's database."""
        self._database = database

    def add(self, name: str, quotas: Quotas) -> Tenant:
        """Make a tenant.

        Raises:
            InputError: there is one of this name, or there was one whose audit or usage is kept.
        """
        tenant = Tenant(name=name, quotas=quotas, made_at=datetime.now(UTC))
        row = tenant.model_dump() | {"quotas": quotas.model_dump(mode="json"), "state": tenant.state.value}
        with self._database.write() as connection:
            if not insert_if_absent(connection, TENANTS, row):
                raise InputError(f"there is a tenant {name!r} already")
            if _was_seen(connection, name):
                raise InputError(f"a tenant {name!r} existed before, its audit and usage are kept; take another name")
        return tenant

    def get(self, name: str) -> Tenant:
        """Return one tenant.

        Raises:
            ModelNotFound: there is none of this name.
        """
        with self._database.read() as connection:
            return _tenant(connection, sa.select(TENANTS).where(TENANTS.c.name == name), name)

    def all(self) -> tuple[Tenant, ...]:
        """Return every tenant, by name."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(TENANTS).order_by(TENANTS.c.name)).all()
        return tuple(Tenant.model_validate(dict(row._mapping)) for row in rows)

    def set_quotas(self, name: str, quotas: Quotas, seen: Tenant | None = None) -> Tenant:
        """Bound a tenant by other quotas; what it has beyond them stays, and nothing is added to it.

        Raises:
            ModelNotFound: there is no such tenant.
            VersionConflict: it is no longer as the caller has seen it.
        """
        return self._change(name, seen, quotas=quotas)

    def set_state(self, name: str, state: TenantState, seen: Tenant | None = None) -> Tenant:
        """Say whether the gateway lets a tenant's requests through.

        Raises:
            ModelNotFound: there is no such tenant.
            VersionConflict: it is no longer as the caller has seen it.
        """
        return self._change(name, seen, state=state)

    def remove(self, name: str) -> None:
        """Remove a tenant with its keys.

        Raises:
            ModelNotFound: there is no such tenant.
            InputError: it has models, an optimization may still make one, or it is the tenant that always exists.
        """
        if name == DEFAULT_TENANT:
            raise InputError(f"the tenant {DEFAULT_TENANT!r} always exists")
        locked = sa.select(TENANTS).where(TENANTS.c.name == name).with_for_update()
        with self._database.write() as connection:
            _tenant(connection, locked, name)  # who adds to it waits for its end, or has added before it is looked at
            held = _holdings(connection, name)
            if held.models:
                raise InputError(f"the tenant {name!r} has {held.models} models; block it and revoke its keys instead")
            if making := _making(connection, name):
                raise InputError(f"{len(making)} optimizations of the tenant {name!r} still run; cancel them first")
            connection.execute(sa.delete(API_KEYS).where(API_KEYS.c.tenant == name))
            connection.execute(sa.delete(ARTIFACT_OWNERS).where(ARTIFACT_OWNERS.c.tenant == name))
            connection.execute(sa.delete(TENANTS).where(TENANTS.c.name == name))

    def own(self, tenant: str, sha256: str, size_bytes: int) -> bool:
        """Note that a tenant has brought an artifact; noting it again changes nothing.

        Returns:
            False, with nothing noted: it does not fit into the tenant's quota of stored bytes.

        Raises:
            ModelNotFound: there is no such tenant.
        """
        locked = sa.select(TENANTS.c.quotas).where(TENANTS.c.name == tenant).with_for_update()
        with self._database.write() as connection:
            found = connection.execute(locked).scalar_one_or_none()
            if found is None:
                raise ModelNotFound(_no_tenant(tenant))
            if _owned(connection, tenant, sha256):
                return True
            limit = Quotas.model_validate(found).stored_bytes
            if limit is not None and _stored_bytes(connection, tenant) + size_bytes > limit:
                return False
            note_owner(connection, tenant, sha256, size_bytes)
        return True

    def claim_version(self, status: OptimizationStatus) -> Shortage | None:
        """Note an optimization as begun if the version that it may make fits beside those that are there or being made.

        Claims of one tenant wait for each other, so no two of them take the last place.

        Returns:
            What it does not fit into, with nothing noted; None: it has begun.

        Raises:
            ModelNotFound: there is no such tenant.
        """
        with self._database.write() as connection:
            short = _shortage(connection, status.model)
            if short is None:
                connection.execute(sa.insert(OPTIMIZATIONS).values(optimization_row(status)))
        return short

    def version_shortage(self, model: str) -> Shortage | None:
        """Return what one more version of a model would not fit into now; nothing is claimed.

        Raises:
            ModelNotFound: there is no such tenant.
        """
        with self._database.read() as connection:
            return _shortage(connection, model)

    def owns(self, tenant: str, sha256: str) -> bool:
        """True if a tenant has brought this artifact, or a version of its is made of it."""
        with self._database.read() as connection:
            return _owned(connection, tenant, sha256)

    def holdings(self, tenant: str) -> Holdings:
        """Return what a tenant has."""
        with self._database.read() as connection:
            return _holdings(connection, tenant)

    def _change(self, name: str, seen: Tenant | None, **fields: Quotas | TenantState) -> Tenant:
        with self._database.write() as connection:
            current = _tenant(connection, sa.select(TENANTS).where(TENANTS.c.name == name).with_for_update(), name)
            if seen is not None and current != seen:
                raise VersionConflict(f"the tenant {name!r} was changed by another; read it again, decide again")
            changed = current.model_copy(update=fields)
            values = changed.model_dump(mode="json", include=set(fields))
            connection.execute(sa.update(TENANTS).where(TENANTS.c.name == name).values(values))
        return changed


def of_tenant(column: sa.Column[str], tenant: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column of qualified names holds a tenant's; those of ``default`` have no dot."""
    if tenant == DEFAULT_TENANT:
        return ~column.contains(".", autoescape=True)
    return column.like(begins_with(qualified(tenant, "")), escape=ESCAPE)


def begins_with(text: str) -> str:
    """Return the pattern, for LIKE with ``ESCAPE``, of what begins with a part of a name.

    It is one value, and not put together by the database: only so does SQLite find what it means by the index.
    """
    return text.replace("_", f"{ESCAPE}_") + "%"


def note_owner(connection: sa.Connection, tenant: str, sha256: str, size_bytes: int) -> None:
    """Note, within a transaction, that an artifact counts for a tenant; noting it again changes nothing."""
    row = {"tenant": tenant, "sha256": sha256, "size_bytes": size_bytes, "at": datetime.now(UTC)}
    insert_if_absent(connection, ARTIFACT_OWNERS, row)


def _holdings(connection: sa.Connection, tenant: str) -> Holdings:
    served = sa.select(sa.func.count(sa.distinct(SERVED_VERSIONS.c.model)), sa.func.count()).where(
        of_tenant(SERVED_VERSIONS.c.model, tenant)
    )
    models, versions = connection.execute(served).one()
    return Holdings(models, versions, _stored_bytes(connection, tenant))


def _shortage(connection: sa.Connection, model: str) -> Shortage | None:
    """Return the first quota that one more version of a model does not fit into, its tenant's row locked."""
    tenant, _ = split_name(model)
    locked = sa.select(TENANTS.c.quotas).where(TENANTS.c.name == tenant).with_for_update()
    found = connection.execute(locked).scalar_one_or_none()
    if found is None:
        raise ModelNotFound(_no_tenant(tenant))
    return next(_shortages(connection, tenant, model, Quotas.model_validate(found)), None)


def _shortages(connection: sa.Connection, tenant: str, model: str, quotas: Quotas) -> Iterator[Shortage]:
    """Yield what one more version of a model does not fit into."""
    if quotas.models is None and quotas.versions is None:
        return
    held, making = _holdings(connection, tenant), _making(connection, tenant)
    if quotas.versions is not None and held.versions + len(making) + 1 > quotas.versions:
        yield Shortage("versions", held.versions + len(making), quotas.versions, 1)
    named = {model, *making}
    known = sa.select(SERVED_VERSIONS.c.model).where(SERVED_VERSIONS.c.model.in_(named)).distinct()
    new = named - set(connection.execute(known).scalars())
    if quotas.models is not None and model in new and held.models + len(new) > quotas.models:
        yield Shortage("models", held.models + len(new) - 1, quotas.models, 1)


def _making(connection: sa.Connection, tenant: str) -> list[str]:
    """The models of a tenant's optimizations that still run, once for each."""
    created_at = OPTIMIZATIONS.c.created_at.desc()
    newest = sa.select(OPTIMIZATIONS.c.record).where(of_tenant(OPTIMIZATIONS.c.model, tenant)).order_by(created_at)
    records = connection.execute(newest.limit(_LOOKED_AT)).scalars()
    statuses = (OptimizationStatus.model_validate_json(record) for record in records)
    return [status.model for status in statuses if status.state.open]


def optimization_row(status: OptimizationStatus) -> dict[str, object]:
    """Return an optimization as its table keeps it."""
    return {
        "id": status.id,
        "model": status.model,
        "created_at": status.created_at,
        "record": status.model_dump_json(),
    }


def _owned(connection: sa.Connection, tenant: str, sha256: str) -> bool:
    query = sa.select(ARTIFACT_OWNERS.c.sha256).where(
        ARTIFACT_OWNERS.c.tenant == tenant, ARTIFACT_OWNERS.c.sha256 == sha256
    )
    return connection.execute(query).first() is not None


def _stored_bytes(connection: sa.Connection, tenant: str) -> int:
    total = sa.func.coalesce(sa.func.sum(ARTIFACT_OWNERS.c.size_bytes), 0)
    return int(connection.execute(sa.select(total).where(ARTIFACT_OWNERS.c.tenant == tenant)).scalar_one())


def _was_seen(connection: sa.Connection, name: str) -> bool:
    tables = (AUDIT, USAGE)
    return any(connection.execute(sa.select(1).where(table.c.tenant == name).limit(1)).first() for table in tables)


def _tenant(connection: sa.Connection, query: sa.Select[Any], name: str) -> Tenant:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise ModelNotFound(_no_tenant(name))
    return Tenant.model_validate(dict(row._mapping))


def _no_tenant(name: str) -> str:
    return f"there is no tenant {name!r}; `burnish tenant list` shows those there are"
