"""What is measured of a net: records only."""

from pydantic import Field

from registry.records.base import Record
from registry.records.benchmark import Environment
from registry.records.gate import PairedTest
from tasks.bench.compare import SpeedDifference


class SearchTimes(Record):
    """What a search took, seen from outside: the start of the interpreter counts."""

    first_best_s: float
    """Until a valid best-so-far stood on the disk."""
    whole_s: float
    budget_minutes: float


class ContestRun(Record):
    """What one process measured."""

    lines: tuple[str, ...]
    """The contestants that were made by hand; the others are winners of the search."""
    medians_ms: dict[int, dict[str, tuple[float, ...]]]
    """By batch size and contestant: the median latency of each round; contestants of one size share their rounds."""
    right: dict[str, tuple[bool, ...]]
    """By contestant: where its answer is the label; empty where there are no labels."""


class Standing(Record):
    """The winner of one net at one batch size beside the best hand-made line."""

    batch_size: int
    winner: str = Field(description="The candidate's label.")
    p50_ms: dict[str, float] = Field(description="Of the winner, as 'winner', and of every line.")
    best_line: str
    difference: SpeedDifference = Field(description="The winner's latency over the best line's.")
    accuracy: float | None
    fidelity: PairedTest | None = Field(description="The winner beside the eager module, on labels.")


class NetFigures(Record):
    """All that was measured of one net."""

    net: str
    small: bool
    measured_at: str
    environment: Environment
    times: SearchTimes
    candidates: dict[str, int] = Field(description="Candidates of the search by how they ended.")
    standings: tuple[Standing, ...]
    line_accuracy: dict[str, float]
    failed_lines: dict[str, str] = Field(description="Why a tool cannot take this net, by line.")
