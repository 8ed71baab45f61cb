"""What the client returns of a route: how a model is served, by which versions, and what a change of that came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Release:
    """A changed route; ``pending`` are the engine workers that do not serve it yet."""

    model: str
    champion: int
    generation: int
    acknowledged: tuple[int, ...]
    pending: tuple[int, ...]

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "Release":
        """Read the API's view of a change."""
        route = found["route"]
        workers = tuple(found["acknowledged"]), tuple(found["pending"])
        return cls(route["model"], route["champion"], route["generation"], *workers)


@dataclass(frozen=True)
class Policy:
    """How the engine serves a model, whichever version answers."""

    latency_objective_ms: float | None = None
    max_waiting: int | None = None
    pinned: bool = False
    cache_mib: int = 0
    non_finite: str = "refuse"


@dataclass(frozen=True)
class Traffic:
    """Which versions answer which percentages of a model's requests; empty while nothing is live."""

    generation: int
    champion: int | None
    percentages: dict[int, float]

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "Traffic":
        """Read the API's view of a split."""
        weights = found["split"]["weights"] if found["split"] else {}
        percentages = {int(version): weight for version, weight in weights.items()}
        return cls(found["generation"], found["champion"], percentages)
