"""Changes of a route: what shall be other, who asks, why, and over which generation."""

from typing import ClassVar

from registry.records.base import Record, VersionNumber
from registry.records.release import ReleaseAction, ServingPolicy, Shadow, TrafficSplit
from registry.records.tenant import QualifiedName


class Promote(Record):
    """Make an admitted version the champion, with all of the traffic."""

    action: ClassVar[ReleaseAction] = ReleaseAction.PROMOTE
    version: VersionNumber


class RollBack(Record):
    """Return to the champion that was live before the current one was promoted."""

    action: ClassVar[ReleaseAction] = ReleaseAction.ROLLBACK


class SetPolicy(Record):
    """Serve by another policy."""

    action: ClassVar[ReleaseAction] = ReleaseAction.POLICY
    policy: ServingPolicy


class SetShadow(Record):
    """Let a version compute answered requests again; None: no version any more."""

    action: ClassVar[ReleaseAction] = ReleaseAction.SHADOW
    shadow: Shadow | None


class SetTraffic(Record):
    """Let several admitted versions, the champion among them, answer shares of the traffic."""

    action: ClassVar[ReleaseAction] = ReleaseAction.TRAFFIC
    split: TrafficSplit


Step = Promote | RollBack | SetPolicy | SetShadow | SetTraffic


class Change(Record):
    """One step of one model's route; it is refused if the route is not the one that the caller has seen."""

    model: QualifiedName
    step: Step
    actor: str
    reason: str = ""
    expected_generation: int | None = None
    """The generation that the caller has seen, 0 for no route; None: whatever it is."""
