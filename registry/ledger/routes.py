"""Routes: what serves a model, changed by compare-and-set inside one transaction, with its history."""

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from registry.errors import InputError, ModelNotFound, VersionConflict
from registry.ledger.tables import RELEASE_EVENTS, ROUTES, SERVED_VERSIONS
from registry.records.release import ReleaseAction, ReleaseEvent, Route, TrafficSplit


@dataclass(frozen=True)
class Change:
    """Which route is changed, how, by whom, why, and which generation they have seen."""

    model: str
    action: ReleaseAction
    actor: str
    reason: str
    expected_generation: int | None


def read_route(connection: sa.Connection, model: str) -> Route | None:
    """Return what serves a model now."""
    row = connection.execute(sa.select(ROUTES).where(ROUTES.c.model == model)).one_or_none()
    return None if row is None else _route(row)


def read_routes(connection: sa.Connection) -> tuple[Route, ...]:
    """Return every route, by model."""
    return tuple(_route(row) for row in connection.execute(sa.select(ROUTES).order_by(ROUTES.c.model)))


def read_history(connection: sa.Connection, model: str) -> tuple[ReleaseEvent, ...]:
    """Return every change of a model's route, oldest first."""
    query = sa.select(RELEASE_EVENTS).where(RELEASE_EVENTS.c.model == model).order_by(RELEASE_EVENTS.c.generation)
    return tuple(ReleaseEvent(**row._mapping) for row in connection.execute(query))


def promote(connection: sa.Connection, version: int, change: Change) -> Route:
    """Make an admitted version the champion.

    Raises:
        ModelNotFound: the version is not admitted.
        VersionConflict: the generation is not the expected one.
        InputError: the version is already live.
    """
    model = change.model
    admitted = _lock_model(connection, model)
    if version not in admitted:
        known = ", ".join(str(number) for number in admitted) or "none"
        raise ModelNotFound(f"version {version} of {model!r} is not admitted to the ledger; admitted: {known}")
    current = _checked(connection, change)
    if current and current.champion == version:
        raise InputError(f"version {version} of {model!r} is already live (generation {current.generation})")
    return _replace(connection, version, current, change)


def roll_back(connection: sa.Connection, change: Change) -> Route:
    """Return to the champion that was live before the current one was promoted.

    Raises:
        ModelNotFound: the model has no admitted version.
        VersionConflict: the generation is not the expected one.
        InputError: nothing was live before.
    """
    model = change.model
    if not _lock_model(connection, model):
        raise ModelNotFound(f"there is no model {model!r} in the ledger")
    current = _checked(connection, change)
    champions = standing_champions(read_history(connection, model))
    if len(champions) < 2:
        live = f"version {current.champion} is the first that was released" if current else "nothing is live"
        raise InputError(f"{model!r} has nothing to roll back to: {live}; promote another version instead")
    return _replace(connection, champions[-2], current, change)


def standing_champions(history: tuple[ReleaseEvent, ...]) -> tuple[int, ...]:
    """Replay a history, oldest first: a promotion pushes its version, a rollback pops one; the last is live."""
    stack: list[int] = []
    for event in history:
        if event.action is ReleaseAction.ROLLBACK:
            stack.pop()
        else:
            stack.append(event.champion)
    return tuple(stack)


def _lock_model(connection: sa.Connection, model: str) -> tuple[int, ...]:
    """Lock a model's rows until the transaction ends (SQLite: the whole file is), and return what is admitted."""
    query = (
        sa.select(SERVED_VERSIONS.c.version)
        .where(SERVED_VERSIONS.c.model == model)
        .order_by(SERVED_VERSIONS.c.version)
        .with_for_update()
    )
    return tuple(connection.execute(query).scalars())


def _checked(connection: sa.Connection, change: Change) -> Route | None:
    model = change.model
    current = read_route(connection, model)
    actual = current.generation if current else 0
    if change.expected_generation is None or change.expected_generation == actual:
        return current
    winner = "nothing is live yet"
    for last in read_history(connection, model)[-1:]:
        at = f"{last.at:%Y-%m-%d %H:%M:%S} UTC"
        winner = f"{last.actor} made version {last.champion} live ({last.action}) at {at}"
    raise VersionConflict(
        f"the route of {model!r} is at generation {actual}, not {change.expected_generation} as expected: {winner}. "
        "Look at what is live now, then decide again with its generation"
    )


def _replace(connection: sa.Connection, champion: int, current: Route | None, change: Change) -> Route:
    route = Route(
        model=change.model,
        generation=current.generation + 1 if current else 1,
        champion=champion,
        split=TrafficSplit(weights={champion: 100}),
        updated_at=datetime.now(UTC),
    )
    values = {**route.model_dump(exclude={"split"}), "split": route.split.model_dump(mode="json")}
    if current:
        connection.execute(sa.update(ROUTES).where(ROUTES.c.model == change.model).values(values))
    else:
        connection.execute(sa.insert(ROUTES).values(values))
    connection.execute(
        sa.insert(RELEASE_EVENTS).values(
            model=change.model,
            generation=route.generation,
            action=change.action.value,
            champion=champion,
            previous=current.champion if current else None,
            actor=change.actor,
            reason=change.reason,
            at=route.updated_at,
        )
    )
    return route


def _route(row: sa.Row[tuple[object, ...]]) -> Route:
    return Route.model_validate(dict(row._mapping))
