"""Listings: pages of what the ledger holds, each read by its order in the database and never as a whole."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from registry.ledger import routes
from registry.ledger.database import Database
from registry.ledger.tables import DRIFT_REPORTS, OPTIMIZATIONS, RELEASE_EVENTS, ROUTES, SERVED_VERSIONS
from registry.ledger.tenants import ESCAPE, begins_with, of_tenant
from registry.records.model import ServedVersion
from registry.records.observation import DriftReport
from registry.records.release import (
    CatalogEntry,
    OptimizationState,
    OptimizationStatus,
    ReleaseEvent,
    Route,
    ServingPolicy,
)
from registry.records.tenant import DEFAULT_TENANT, qualified

_FORMS = 1024

_ADMITTED = (
    sa.select(SERVED_VERSIONS.c.model, SERVED_VERSIONS.c.record)
    .where(SERVED_VERSIONS.c.model.in_(sa.bindparam("models", expanding=True)))
    .order_by(SERVED_VERSIONS.c.version)
)


@dataclass(frozen=True)
class ListedModel:
    """A model by its qualified name, what serves of it, and the numbers of its versions."""

    name: str
    route: Route | None
    versions: tuple[int, ...]


@dataclass(frozen=True)
class Mark:
    """What is other whenever anything of a model that the engine must know is other; generation 0: nothing is live."""

    generation: int
    versions: int


class Listings:
    """Pages of what there is; ``after`` is the place of the last item of the page before."""

    def __init__(self, database: Database) -> None:
        """Read from the ledger's database."""
        self._database = database

    def models(
        self, tenant: str, limit: int, *, after: str | None = None, prefix: str = "", contains: str = ""
    ) -> tuple[ListedModel, ...]:
        """Return a tenant's models by name.

        Args:
            tenant: whose.
            limit: how many at most.
            after: the qualified name before the first one.
            prefix: what the model's name begins with.
            contains: what it holds.
        """
        query = _models(tenant, prefix=bool(prefix), contains=bool(contains), after=after is not None)
        asked = {
            "most": limit,
            "prefix": begins_with(qualified(tenant, prefix)),
            "contains": f"%{begins_with(contains)}",
            "after": after,
        }
        with self._database.read() as connection:
            return tuple(_model(*row) for row in connection.execute(query, asked))

    def model(self, name: str) -> ListedModel | None:
        """Return one model by its qualified name; None if it has no admitted version."""
        with self._database.read() as connection:
            row = connection.execute(_ONE_MODEL, {"name": name}).one_or_none()
        return None if row is None else _model(*row)

    def entries(self, models: Sequence[str]) -> tuple[CatalogEntry, ...]:
        """Return what the engine must know of some models, by qualified name and in their order."""
        records: dict[str, list[ServedVersion]] = {name: [] for name in models}
        with self._database.read() as connection:
            # Routes first: on Postgres the second statement may see more, and a route names admitted versions only.
            live = {route.model: route for route in routes.read_routes(connection, models)}
            for model, record in connection.execute(_ADMITTED, {"models": tuple(models)}):
                records[model].append(ServedVersion.model_validate_json(record))
        return tuple(_entry(name, live.get(name), tuple(found)) for name, found in records.items())

    def marks(self) -> dict[str, Mark]:
        """Return the mark of every model."""
        versions = (
            sa.select(SERVED_VERSIONS.c.model, sa.func.count().label("versions"))
            .group_by(SERVED_VERSIONS.c.model)
            .subquery()
        )
        query = sa.select(versions.c.model, ROUTES.c.generation, versions.c.versions).outerjoin_from(
            versions, ROUTES, versions.c.model == ROUTES.c.model
        )
        with self._database.read() as connection:
            return {model: Mark(generation or 0, count) for model, generation, count in connection.execute(query)}

    def unreleased(self, limit: int) -> tuple[tuple[str, int, int | None], ...]:
        """Return versions newer than every version of their model that was ever live, each with the live one."""
        events = RELEASE_EVENTS.c
        newest = (
            sa.select(events.model, sa.func.max(events.champion).label("version")).group_by(events.model).subquery()
        )
        admitted = SERVED_VERSIONS.c
        query = (
            sa.select(admitted.model, admitted.version, ROUTES.c.champion)
            .outerjoin_from(SERVED_VERSIONS, newest, admitted.model == newest.c.model)
            .outerjoin(ROUTES, admitted.model == ROUTES.c.model)
            .where(admitted.version > sa.func.coalesce(newest.c.version, 0))
            .order_by(admitted.model, admitted.version)
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple((model, version, live) for model, version, live in connection.execute(query))

    def count(self) -> int:
        """Return how many models there are."""
        with self._database.read() as connection:
            return connection.execute(sa.select(sa.func.count(SERVED_VERSIONS.c.model.distinct()))).scalar_one()

    def optimizations(
        self, tenant: str, limit: int, *, model: str | None = None, after: tuple[datetime, str] | None = None
    ) -> tuple[OptimizationStatus, ...]:
        """Return a tenant's optimizations, or those of one model by its qualified name, newest first."""
        created_at, identifier = OPTIMIZATIONS.c.created_at, OPTIMIZATIONS.c.id
        query = sa.select(OPTIMIZATIONS.c.record).order_by(created_at.desc(), identifier.desc()).limit(limit)
        of = OPTIMIZATIONS.c.model
        query = query.where(of_tenant(of, tenant) if model is None else of == model)
        if after is not None:
            query = query.where((created_at < after[0]) | ((created_at == after[0]) & (identifier < after[1])))
        return self._records(query, OptimizationStatus.model_validate_json)

    def open_optimizations(self) -> tuple[OptimizationStatus, ...]:
        """Return every tenant's optimizations that have not ended, oldest first."""
        record = OPTIMIZATIONS.c.record
        # Asked of the record's text, so that few are read: what a message quotes has other quotation marks in JSON.
        asked = (record.contains(f'"state":"{state}"', autoescape=True) for state in OptimizationState if state.open)
        query = sa.select(record).where(sa.or_(*asked)).order_by(OPTIMIZATIONS.c.created_at, OPTIMIZATIONS.c.id)
        return self._records(query, OptimizationStatus.model_validate_json)

    def events(self, model: str, limit: int, *, after: int = 0) -> tuple[ReleaseEvent, ...]:
        """Return the changes of a model's route that came after a generation, oldest first."""
        with self._database.read() as connection:
            return routes.read_history(connection, model, after=after, limit=limit)

    def drift_reports(self, model: str, limit: int, *, after: datetime | None = None) -> tuple[DriftReport, ...]:
        """Return a model's drift reports, newest first."""
        query = (
            sa.select(DRIFT_REPORTS.c.record)
            .where(DRIFT_REPORTS.c.model == model)
            .order_by(DRIFT_REPORTS.c.created_at.desc())
            .limit(limit)
        )
        if after is not None:
            query = query.where(DRIFT_REPORTS.c.created_at < after)
        return self._records(query, DriftReport.model_validate_json)

    def _records(self, query: sa.Select[Any], read: Callable[[str], Any]) -> tuple[Any, ...]:
        with self._database.read() as connection:
            return tuple(read(text) for text in connection.execute(query).scalars())


def _entry(model: str, route: Route | None, versions: tuple[ServedVersion, ...]) -> CatalogEntry:
    return CatalogEntry(
        model=model,
        generation=route.generation if route else 0,
        split=route.split if route else None,
        versions=versions,
        policy=route.policy if route else ServingPolicy(),
        shadow=route.shadow if route else None,
    )


def _listed(named: sa.Select[tuple[str, str]]) -> sa.Select[Any]:
    """Return the statement that reads, by name, what is live of the models that another one names."""
    asked = named.subquery()
    return (
        sa.select(asked.c.model, asked.c.versions, *routes.ROUTE_COLUMNS)
        .outerjoin_from(asked, ROUTES, asked.c.model == ROUTES.c.model)
        .order_by(asked.c.model)
    )


_NAME = SERVED_VERSIONS.c.model
_NAMED = sa.select(
    _NAME, sa.func.aggregate_strings(sa.cast(SERVED_VERSIONS.c.version, sa.Text), ",").label("versions")
).group_by(_NAME)
_ONE_MODEL = _listed(_NAMED.where(sa.bindparam("name") == _NAME))


@functools.lru_cache(_FORMS)
def _models(tenant: str, *, prefix: bool, contains: bool, after: bool) -> sa.Select[Any]:
    """Return the statement of a page of a tenant's models, made once for each of its forms."""
    short = _NAME if tenant == DEFAULT_TENANT else sa.func.substr(_NAME, len(qualified(tenant, "")) + 1)
    query = _NAMED.where(of_tenant(_NAME, tenant)).order_by(_NAME).limit(sa.bindparam("most"))
    if prefix:
        query = query.where(_NAME.like(sa.bindparam("prefix"), escape=ESCAPE))
    if contains:
        query = query.where(short.like(sa.bindparam("contains"), escape=ESCAPE))
    if after:
        query = query.where(sa.bindparam("after") < _NAME)
    return _listed(query)


def _model(name: str, versions: str, *route: Any) -> ListedModel:  # noqa: ANN401  a row
    numbers = tuple(sorted(map(int, versions.split(","))))
    return ListedModel(name, None if route[0] is None else routes.read_row(route), numbers)
