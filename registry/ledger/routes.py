"""Routes: what serves a model, changed by compare-and-set inside one transaction, with its history."""

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from registry.errors import InputError, ModelNotFound, VersionConflict
from registry.ledger.tables import RELEASE_EVENTS, ROUTES, SERVED_VERSIONS
from registry.records.release import ReleaseAction, ReleaseEvent, Route, ServingPolicy, Shadow, TrafficSplit

_SAID = {ReleaseAction.POLICY: "changed its policy", ReleaseAction.SHADOW: "changed its shadow"}


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
    """Make an admitted version the champion; a shadow that becomes it is a shadow no more.

    Raises:
        ModelNotFound: the version is not admitted.
        VersionConflict: the generation is not the expected one.
        InputError: the version is already live.
    """
    model = change.model
    _require_admitted(_lock_model(connection, model), model, version)
    current = _checked(connection, change)
    if current and current.champion == version:
        raise InputError(f"version {version} of {model!r} is already live (generation {current.generation})")
    return _release(connection, version, current, change)


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
    return _release(connection, champions[-2], current, change)


def set_policy(connection: sa.Connection, policy: ServingPolicy, change: Change) -> Route:
    """Serve a model by another policy; a route that has it already stays as it is.

    Raises:
        ModelNotFound: nothing of the model is live.
        VersionConflict: the generation is not the expected one.
    """
    _lock_model(connection, change.model)
    current = _live(connection, change)
    if current.policy == policy:
        return current
    return _replace(connection, _next(current, policy=policy), current.champion, change)


def set_shadow(connection: sa.Connection, shadow: Shadow | None, change: Change) -> Route:
    """Let an admitted version compute answered requests again, or none; a route that says so already stays as it is.

    Raises:
        ModelNotFound: nothing of the model is live, or the version is not admitted.
        VersionConflict: the generation is not the expected one.
        InputError: the version is live: it would be compared with itself.
    """
    model = change.model
    admitted = _lock_model(connection, model)
    current = _live(connection, change)
    if shadow is not None:
        _require_admitted(admitted, model, shadow.version)
        if shadow.version in current.split.weights:
            raise InputError(f"version {shadow.version} of {model!r} is live; a shadow is a version that is not")
    if current.shadow == shadow:
        return current
    return _replace(connection, _next(current, shadow=shadow), current.champion, change)


def standing_champions(history: tuple[ReleaseEvent, ...]) -> tuple[int, ...]:
    """Replay a history, oldest first: a promotion pushes its version, a rollback pops one; the last is live."""
    stack: list[int] = []
    for event in history:
        if event.action is ReleaseAction.ROLLBACK:
            stack.pop()
        elif event.action is ReleaseAction.PROMOTE:
            stack.append(event.champion)
    return tuple(stack)


def _require_admitted(admitted: tuple[int, ...], model: str, version: int) -> None:
    if version not in admitted:
        known = ", ".join(str(number) for number in admitted) or "none"
        raise ModelNotFound(f"version {version} of {model!r} is not admitted to the ledger; admitted: {known}")


def _live(connection: sa.Connection, change: Change) -> Route:
    current = _checked(connection, change)
    if current is None:
        raise ModelNotFound(f"nothing of {change.model!r} is live; promote a version first")
    return current


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
        did = _SAID.get(last.action, f"made version {last.champion} live ({last.action})")
        winner = f"{last.actor} {did} at {at}"
    raise VersionConflict(
        f"the route of {model!r} is at generation {actual}, not {change.expected_generation} as expected: {winner}. "
        "Look at what is live now, then decide again with its generation"
    )


def _release(connection: sa.Connection, champion: int, current: Route | None, change: Change) -> Route:
    split = TrafficSplit(weights={champion: 100})
    if current is None:
        first = Route(model=change.model, generation=1, champion=champion, split=split, updated_at=datetime.now(UTC))
        return _replace(connection, first, None, change)
    shadow = None if current.shadow and current.shadow.version == champion else current.shadow
    route = _next(current, champion=champion, split=split, shadow=shadow)
    return _replace(connection, route, current.champion, change)


def _next(current: Route, **changes: object) -> Route:
    return current.model_copy(update={"generation": current.generation + 1, "updated_at": datetime.now(UTC), **changes})


def _replace(connection: sa.Connection, route: Route, previous: int | None, change: Change) -> Route:
    """Write a route of the next generation and its event."""
    parts = route.model_dump(mode="json", include={"split", "policy", "shadow"})
    values = {**route.model_dump(exclude=set(parts)), **parts}
    if previous is None:
        connection.execute(sa.insert(ROUTES).values(values))
    else:
        connection.execute(sa.update(ROUTES).where(ROUTES.c.model == change.model).values(values))
    connection.execute(
        sa.insert(RELEASE_EVENTS).values(
            model=change.model,
            generation=route.generation,
            action=change.action.value,
            champion=route.champion,
            previous=previous,
            policy=parts["policy"],
            shadow=parts["shadow"],
            actor=change.actor,
            reason=change.reason,
            at=route.updated_at,
        )
    )
    return route


def _route(row: sa.Row[tuple[object, ...]]) -> Route:
    return Route.model_validate(dict(row._mapping))
