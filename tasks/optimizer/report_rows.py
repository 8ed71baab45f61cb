"""What the report page says of each candidate, in words."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from registry.records.benchmark import Interval
from registry.records.gate import Verdict
from registry.records.model import PluginConfig
from registry.records.optimization import CandidateResult, CandidateStatus, OptimizationResult
from tasks.bench.intervals import CALLS_FOR_P99
from tasks.optimizer import wording
from tasks.optimizer.pareto import eligible, latency_at_largest_batch, latency_at_smallest_batch, why_not_chosen

_ORDER = (
    CandidateStatus.MEASURED,
    CandidateStatus.BUILT,
    CandidateStatus.PENDING,
    CandidateStatus.REFUSED,
    CandidateStatus.FAILED,
    CandidateStatus.SKIPPED,
)
_SHOWN_LAYERS = 4


class Group(StrEnum):
    """Where the page shows a candidate, the most wanted first."""

    FRONT = "front"
    NEAR = "near"
    UNFINISHED = "unfinished"
    REFUSED = "refused"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Cell:
    """One figure with its interval beneath it."""

    value: str = ""
    interval: str = ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One candidate as the page shows it."""

    number: int
    result: CandidateResult
    steps: tuple[str, ...]
    knobs: str
    badges: tuple[str, ...]
    winner: bool
    reason: str
    p50: Cell
    p99: Cell
    throughput: Cell
    score: Cell
    size: Cell
    memory: Cell
    cost: Cell
    energy: Cell

    @property
    def group(self) -> Group:
        """The winner, the front and the baselines stand first; then what lost to them; then what never competed."""
        status = self.result.status
        if status is CandidateStatus.MEASURED:
            return Group.FRONT if self.winner or self.result.on_front or self.result.baseline else Group.NEAR
        if status in (CandidateStatus.REFUSED, CandidateStatus.FAILED, CandidateStatus.SKIPPED):
            return Group(status.value)
        return Group.UNFINISHED

    @property
    def name(self) -> str:
        """The recipe and the runtime, without knobs."""
        return f"{' > '.join(self.steps)} @ {self.result.candidate.runtime.name}"


def rows(result: OptimizationResult) -> list[Row]:
    """Describe every candidate: the winner first, then by latency, then those that never ran."""
    ordered = sorted(result.candidates, key=lambda candidate: _place(result, candidate))
    return [_row(number, candidate, result) for number, candidate in enumerate(ordered, start=1)]


def _place(result: OptimizationResult, candidate: CandidateResult) -> tuple[bool, int, bool, float]:
    latency = latency_at_smallest_batch(candidate).latency_p50_ms.estimate if candidate.benchmark else 0.0
    beside = not (candidate.on_front or candidate.baseline)
    return candidate.candidate.id != result.winner, _ORDER.index(candidate.status), beside, latency


def _row(number: int, candidate: CandidateResult, result: OptimizationResult) -> Row:
    benchmark = candidate.benchmark
    first, last = (
        (latency_at_smallest_batch(candidate), latency_at_largest_batch(candidate)) if benchmark else (None,) * 2
    )
    enough = first is None or first.calls >= CALLS_FOR_P99
    return Row(
        number=number,
        result=candidate,
        steps=tuple(step.name for step in candidate.candidate.recipe) or ("source",),
        knobs="; ".join(filter(None, map(_knobs, (*candidate.candidate.recipe, candidate.candidate.runtime)))),
        badges=_badges(candidate, result),
        winner=candidate.candidate.id == result.winner,
        reason=_reason(candidate, result),
        p50=_cell(first.latency_p50_ms, wording.milliseconds) if first else Cell(),
        p99=_cell(first.latency_p99_ms, wording.milliseconds, "" if enough else "few calls") if first else Cell(),
        throughput=_cell(last.throughput_per_s, wording.per_second) if last else Cell(),
        score=_cell(candidate.score, wording.percent) if candidate.score else Cell(),
        size=Cell(wording.data_size(candidate.artifact.size_bytes)) if candidate.artifact else Cell(),
        memory=Cell(wording.mebibytes(benchmark.peak_memory_mib)) if benchmark else Cell(),
        cost=Cell(wording.money(candidate.cost_per_million)) if candidate.cost_per_million is not None else Cell(),
        energy=_cell(first.energy_mj, wording.millijoules) if first and first.energy_mj else Cell(),
    )


def refusals_by_rule(described: Sequence[Row]) -> list[tuple[str, int]]:
    """How many candidates each rule refused, the rule that refused most first; the first refusal of each counts."""
    counted = Counter(row.result.gate.refusals[0].rule for row in described if row.result.gate.refusals)
    return counted.most_common()


def float_layers(result: OptimizationResult) -> frozenset[str]:
    """The layers that the winner leaves in float; if it leaves none, those that any measured repair does."""
    chosen = _excluded(result.chosen) if result.chosen else frozenset()
    repairs = [_excluded(one) for one in result.candidates if one.repairs and one.status is CandidateStatus.MEASURED]
    return chosen or frozenset().union(*repairs)


def _excluded(candidate: CandidateResult) -> frozenset[str]:
    found: set[str] = set()
    for step in candidate.candidate.recipe:
        layers = step.knobs.get("excluded_layers")
        found.update(layers if isinstance(layers, tuple) else ())
    return frozenset(found)


def _knobs(plugin: PluginConfig) -> str:
    knobs = ", ".join(f"{name}={_value(value)}" for name, value in sorted(plugin.knobs.items()))
    return f"{plugin.name}: {knobs}" if knobs else ""


def _value(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    shown = ", ".join(value[:_SHOWN_LAYERS])
    return f"[{shown}{f' and {len(value) - _SHOWN_LAYERS} more' if len(value) > _SHOWN_LAYERS else ''}]"


def _cell(interval: Interval, show: Callable[[float], str], note: str = "") -> Cell:
    low, high = show(interval.low), show(interval.high)
    number = low.rsplit(" ", 1)[0] if low.rsplit(" ", 1)[-1] == high.rsplit(" ", 1)[-1] else low
    return Cell(show(interval.estimate), f"{number} to {high}", note)


def _badges(candidate: CandidateResult, result: OptimizationResult) -> tuple[str, ...]:
    found = []
    if candidate.candidate.id == result.winner:
        found.append("winner")
    elif candidate.status is CandidateStatus.MEASURED:
        found.append("front" if candidate.on_front else "passed")
    else:
        cannot = any(outcome.verdict is Verdict.CANNOT_TELL for outcome in candidate.gate.refusals)
        refused = candidate.status is CandidateStatus.REFUSED
        found.append("cannot tell" if refused and cannot else candidate.status.value)
    if candidate.baseline:
        found.append("baseline")
    return tuple(found)


def _reason(candidate: CandidateResult, result: OptimizationResult) -> str:
    """Why the candidate was not chosen; empty for the winner."""
    winner = result.chosen
    if winner is candidate:
        return ""
    if candidate.reason:
        return candidate.reason
    refusals = "; ".join(f"{outcome.rule}: {outcome.reason}" for outcome in candidate.gate.refusals)
    if refusals or winner is None or not eligible([candidate]):
        return refusals
    return why_not_chosen(candidate, winner, result.config.policy, result.config.latency_limit_ms)
