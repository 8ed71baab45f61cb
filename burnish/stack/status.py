"""How a stack is now."""

from pathlib import Path
from typing import Any

from burnish.stack.health import Health
from burnish.stack.plan import Part, PartState, SupervisorState, read_plan, read_state
from burnish.stack.processes import find
from registry.records.base import Record
from serving.gateway.admin import refused_updates


class PartStatus(Record):
    """One part."""

    name: str
    running: bool
    healthy: bool
    pid: int | None
    restarts: int
    url: str


class StackStatus(Record):
    """All parts, and what the control API has to say."""

    home: Path
    healthy: bool
    parts: tuple[PartStatus, ...]
    notes: tuple[str, ...] = ()


def read_status(home: Path, control_url: str, gateway_admin_port: int | None = None) -> StackStatus:
    """Ask every part of the stack in a home folder; a stack that does not run is not healthy.

    Args:
        home: the stack's folder.
        control_url: of the control API, which has notes of its own.
        gateway_admin_port: of Envoy, which says what it has refused; None: it is not asked.
    """
    plan, state = read_plan(home), read_state(home)
    if plan is None or state is None or find(state.supervisor) is None:
        stopped = tuple(_status(part, None, healthy=False) for part in plan.parts) if plan else ()
        return StackStatus(home=home, healthy=False, parts=stopped, notes=("the stack is not running",))
    alive = {name: part for name, part in state.parts.items() if find(part.process)}
    with Health() as health:
        ready = health.ready(plan.parts, {name: part.process.started for name, part in alive.items()})
        answer = health.json(f"{control_url}/v1/status")
    parts = tuple(_status(part, _known(state, alive, part), healthy=ready[part.name]) for part in plan.parts)
    refused = refused_updates(gateway_admin_port) if gateway_admin_port is not None else ()
    notes = tuple(dict.fromkeys((*_notes(answer), *refused)))  # Envoy is asked here too: the control API may be down
    return StackStatus(home=home, healthy=all(ready.values()), parts=parts, notes=notes)


def _known(state: SupervisorState, alive: dict[str, PartState], part: Part) -> tuple[PartState, bool] | None:
    known = state.parts.get(part.name)
    return (known, part.name in alive) if known else None


def _status(part: Part, known: tuple[PartState, bool] | None, *, healthy: bool) -> PartStatus:
    state, alive = known or (None, False)
    return PartStatus(
        name=part.name,
        running=alive,
        healthy=healthy,
        pid=state.process.pid if state and alive else None,
        restarts=state.starts - 1 if state else 0,
        url=part.url,
    )


def _notes(answer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """What the reconciler found last, as the control API tells it."""
    if not isinstance(answer, dict):
        return ()
    return tuple(str(note) for note in answer.get("notes", ()))
