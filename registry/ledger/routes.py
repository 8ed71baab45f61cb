"""Routes: what serves a model, changed by compare-and-set inside one transaction, with its history."""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from registry.errors import InputError, ModelNotFound, VersionConflict
from registry.ledger.tables import RELEASE_EVENTS, ROUTES, SERVED_VERSIONS
from registry.records.change import Change, Promote, RollBack, SetPolicy, SetShadow, SetTraffic
from registry.records.release import ReleaseAction, ReleaseEvent, Route, ServingPolicy, Shadow, TrafficSplit

ROUTE_COLUMNS = (
    ROUTES.c.model,
    ROUTES.c.generation,
    ROUTES.c.champion,
    *(sa.cast(column, sa.Text).label(column.name) for column in (ROUTES.c.split, ROUTES.c.policy, ROUTES.c.shadow)),
    ROUTES.c.updated_at,
)
"""What ``read_row`` reads; splits, policies and shadows as text: of thousands of routes, most have the same."""

# Statements that are asked often are made once: to make one again costs more than the database takes for it.
_ALL = sa.select(*ROUTE_COLUMNS).order_by(ROUTES.c.model)
_SOME = _ALL.where(ROUTES.c.model.in_(sa.bindparam("models", expanding=True)))
_ONE = sa.select(*ROUTE_COLUMNS).where(ROUTES.c.model == sa.bindparam("model"))
_LOCKED_VERSIONS = (
    sa.select(SERVED_VERSIONS.c.version)
    .where(SERVED_VERSIONS.c.model == sa.bindparam("model"))
    .order_by(SERVED_VERSIONS.c.version)
    .with_for_update()
)
_INSERT = sa.insert(ROUTES)
_UPDATE = sa.update(ROUTES).where(ROUTES.c.model == sa.bindparam("of"))
_INSERT_EVENT = sa.insert(RELEASE_EVENTS)
_KNOWN = 1024
_split_of = functools.lru_cache(_KNOWN)(TrafficSplit.model_validate_json)
_policy_of = functools.lru_cache(_KNOWN)(ServingPolicy.model_validate_json)
_shadow_of = functools.lru_cache(_KNOWN)(Shadow.model_validate_json)

_SAID = {
    ReleaseAction.POLICY: "changed its policy",
    ReleaseAction.SHADOW: "changed its shadow",
    ReleaseAction.TRAFFIC: "changed its traffic",
}


def read_route(connection: sa.Connection, model: str) -> Route | None:
    """Return what serves a model now."""
    row = connection.execute(_ONE, {"model": model}).one_or_none()
    return None if row is None else read_row(row)


def read_routes(connection: sa.Connection, models: Sequence[str] | None = None) -> tuple[Route, ...]:
    """Return every route, or those of some models, by model."""
    rows = connection.execute(_ALL) if models is None else connection.execute(_SOME, {"models": tuple(models)})
    return tuple(read_row(row) for row in rows)


def read_row(row: Sequence[Any]) -> Route:
    """Read a row of ``ROUTE_COLUMNS``."""
    model, generation, champion, split, policy, shadow, updated_at = row
    return Route(
        model=model,
        generation=generation,
        champion=champion,
        split=_split_of(split),
        policy=_policy_of(policy),
        shadow=None if shadow is None else _shadow_of(shadow),
        updated_at=updated_at,
    )


def read_history(
    connection: sa.Connection, model: str, *, after: int = 0, limit: int | None = None
) -> tuple[ReleaseEvent, ...]:
    """Return the changes of a model's route that came after a generation, oldest first."""
    query = (
        sa.select(RELEASE_EVENTS)
        .where((RELEASE_EVENTS.c.model == model) & (RELEASE_EVENTS.c.generation > after))
        .order_by(RELEASE_EVENTS.c.generation)
        .limit(limit)
    )
    return tuple(ReleaseEvent(**row._mapping) for row in connection.execute(query))


def change_route(connection: sa.Connection, change: Change) -> Route:
    """Take one step with a model's route; a route that is so already stays as it is, except for a promotion.

    Raises:
        ModelNotFound: the model or the version is not in the ledger, or nothing is live to be changed.
        VersionConflict: the generation is not the expected one.
        InputError: the step makes no sense on this route; the message says why.
    """
    model, step = change.model, change.step
    admitted = lock_model(connection, model)
    current = _checked(connection, change)
    match step:
        case Promote():
            route = _promoted(model, step.version, admitted, current)
        case RollBack():
            route = _rolled_back(model, admitted, current, read_history(connection, model))
        case SetPolicy():
            route = _live(model, current).model_copy(update={"policy": step.policy})
        case SetShadow():
            route = _shadowed(step.shadow, admitted, _live(model, current))
        case SetTraffic():
            route = _split(step.split, admitted, _live(model, current))
    return route if route == current else _replace(connection, current, route, change)


def lock_model(connection: sa.Connection, model: str) -> tuple[int, ...]:
    """Lock a model's rows until the transaction ends (SQLite: the whole file is), and return what is admitted."""
    return tuple(connection.execute(_LOCKED_VERSIONS, {"model": model}).scalars())


def standing_champions(history: tuple[ReleaseEvent, ...]) -> tuple[int, ...]:
    """Replay a history, oldest first: a promotion pushes its version, a rollback pops one; the last is live."""
    stack: list[int] = []
    for event in history:
        if event.action is ReleaseAction.ROLLBACK:
            stack.pop()
        elif event.action is ReleaseAction.PROMOTE and stack[-1:] != [event.champion]:  # otherwise it ended a split
            stack.append(event.champion)
    return tuple(stack)


def _promoted(model: str, version: int, admitted: tuple[int, ...], current: Route | None) -> Route:
    _require_admitted(admitted, model, (version,))
    if current and current.split.weights == {version: 100}:
        raise InputError(f"version {version} of {model!r} is already live (generation {current.generation})")
    return _with_champion(model, version, current)


def _rolled_back(
    model: str, admitted: tuple[int, ...], current: Route | None, history: tuple[ReleaseEvent, ...]
) -> Route:
    if not admitted:
        raise ModelNotFound(f"there is no model {model!r} in the ledger")
    champions = standing_champions(history)
    if len(champions) < 2:
        live = f"version {current.champion} is the first that was released" if current else "nothing is live"
        raise InputError(f"{model!r} has nothing to roll back to: {live}; promote another version instead")
    return _with_champion(model, champions[-2], current)


def _with_champion(model: str, champion: int, current: Route | None) -> Route:
    """A shadow that becomes the champion is a shadow no more."""
    split = TrafficSplit(weights={champion: 100})
    if current is None:
        return Route(model=model, generation=1, champion=champion, split=split, updated_at=datetime.now(UTC))
    return current.model_copy(
        update={"champion": champion, "split": split, "shadow": _shadow_beside(split, current.shadow)}
    )


def _shadowed(shadow: Shadow | None, admitted: tuple[int, ...], current: Route) -> Route:
    if shadow is not None:
        _require_admitted(admitted, current.model, (shadow.version,))
        if shadow.version in current.split.weights:
            raise InputError(
                f"version {shadow.version} of {current.model!r} is live; a shadow is a version that is not"
            )
    return current.model_copy(update={"shadow": shadow})


def _split(split: TrafficSplit, admitted: tuple[int, ...], current: Route) -> Route:
    """A shadow that gets traffic is a shadow no more."""
    model, champion = current.model, current.champion
    _require_admitted(admitted, model, tuple(split.weights))
    if empty := [version for version, weight in split.weights.items() if not weight]:
        raise InputError(f"version {empty[0]} of {model!r} would get 0 %; leave it out instead")
    if champion not in split.weights:
        raise InputError(
            f"version {champion} is the champion of {model!r} and keeps a part of the traffic; "
            "to replace it, promote the other version"
        )
    return current.model_copy(update={"split": split, "shadow": _shadow_beside(split, current.shadow)})


def _shadow_beside(split: TrafficSplit, shadow: Shadow | None) -> Shadow | None:
    return None if shadow and shadow.version in split.weights else shadow


def _require_admitted(admitted: tuple[int, ...], model: str, versions: tuple[int, ...]) -> None:
    for version in versions:
        if version in admitted:
            continue
        known = ", ".join(str(number) for number in admitted) or "none"
        raise ModelNotFound(f"version {version} of {model!r} is not admitted to the ledger; admitted: {known}")


def _live(model: str, current: Route | None) -> Route:
    if current is None:
        raise ModelNotFound(f"nothing of {model!r} is live; promote a version first")
    return current


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


def _replace(connection: sa.Connection, current: Route | None, wanted: Route, change: Change) -> Route:
    """Write a route as the next generation, and its event."""
    generation = current.generation + 1 if current else 1
    route = wanted.model_copy(update={"generation": generation, "updated_at": datetime.now(UTC)})
    parts = route.model_dump(mode="json", include={"split", "policy", "shadow"})
    values = {**route.model_dump(exclude=set(parts)), **parts}
    if current is None:
        connection.execute(_INSERT, values)
    else:
        connection.execute(_UPDATE, values | {"of": change.model})
    event = {
        **parts,
        "model": change.model,
        "generation": route.generation,
        "action": change.step.action.value,
        "champion": route.champion,
        "previous": current.champion if current else None,
        "actor": change.actor,
        "reason": change.reason,
        "at": route.updated_at,
    }
    connection.execute(_INSERT_EVENT, event)
    return route
