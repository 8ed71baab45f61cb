"""How a search goes: on a terminal a table redrawn in place with what is tried now, elsewhere one line an ending."""

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from registry.records.optimization import CandidateResult, CandidateStatus

_STYLES = {
    CandidateStatus.PENDING: "dim",
    CandidateStatus.BUILT: "",
    CandidateStatus.MEASURED: "green",
    CandidateStatus.REFUSED: "red",
    CandidateStatus.FAILED: "red",
    CandidateStatus.SKIPPED: "dim",
}
_ENDED_BADLY = (CandidateStatus.REFUSED, CandidateStatus.FAILED)
_MOST_ROWS = 15
_OTHER_LINES = 9
"""Lines of the board that are no rows: head, rule, foot and the two lines above the table."""


class Board:
    """A live table, one row a candidate: the fastest first, then those that ended badly, the rest as a count."""

    def __init__(self, console: Console, budget_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Draw nothing yet.

        Args:
            console: to draw on.
            budget_s: seconds that the search may take.
            clock: tells seconds.
        """
        self._console = console
        self._clock = clock
        self._ends = clock() + budget_s
        self._results: dict[str, CandidateResult] = {}
        self._now: CandidateResult | None = None
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self.view)

    def __enter__(self) -> "Board":
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table standing."""
        self._live.stop()

    def show(self, result: CandidateResult) -> None:
        """Take in one candidate's change."""
        self._results[result.candidate.id] = result
        if result.status is CandidateStatus.PENDING:
            self._now = result
        elif self._now and self._now.candidate == result.candidate and _has_ended(result):
            self._now = None

    def view(self) -> RenderableType:
        """The board as it is now."""
        return Group(Text(self._progress()), Text(self._best()), self._table())

    def _progress(self) -> str:
        left = max(0.0, self._ends - self._clock())
        now = f"trying {self._now.candidate.label}" if self._now else "measuring and choosing"
        done = sum(map(_has_ended, self._results.values()))
        return f"{now}; {done} done, at most {int(left // 60)}:{int(left % 60):02d} left"

    def _best(self) -> str:
        measured = [one for one in self._results.values() if one.benchmark and one.status not in _ENDED_BADLY]
        best = min(measured, key=_p50, default=None)
        if best is None:
            return "nothing measured yet"
        baseline = next((one for one in self._results.values() if one.baseline and one.benchmark), None)
        speed_up = f", {_p50(baseline) / _p50(best):.1f} times as fast as the source" if baseline else ""
        return f"best so far: {best.candidate.label}, {_p50(best):.4g} ms{speed_up}"

    def _table(self) -> Table:
        table = Table()
        for column in ("candidate", "status", "p50 ms", "score", "size KiB", "reason"):
            table.add_column(
                column, no_wrap=column != "candidate", overflow="fold" if column == "candidate" else "ellipsis"
            )
        ordered = sorted(self._results.values(), key=_place)
        rows = min(_MOST_ROWS, max(3, self._console.height - _OTHER_LINES))
        for result in ordered[:rows]:
            table.add_row(*(Text(cell) for cell in _cells(result)), style=_STYLES[result.status])
        rest = Counter(result.status.value for result in ordered[rows:])
        if rest:
            table.caption = "and " + ", ".join(f"{count} {status}" for status, count in rest.items())
        return table


def show_lines(result: CandidateResult) -> None:
    """Write one line when a candidate was looked at for the first time, and one when it has come to its end."""
    if _has_ended(result):
        label, status, p50_ms, score, _, reason = _cells(result)
        figures = f" p50 {p50_ms} ms, score {score}" if p50_ms else ""
        click.echo(f"{label}: {status}{figures}" + (f": {reason}" if reason else ""))


def _has_ended(result: CandidateResult) -> bool:
    """True if it came to an end, or waits for the final measurement."""
    return result.status is not CandidateStatus.PENDING and (
        result.status is not CandidateStatus.BUILT or result.benchmark is not None
    )


def _place(result: CandidateResult) -> tuple[int, float]:
    """What is tried now first, then by latency, then what ended badly, last what was skipped."""
    if not _has_ended(result):
        return 0, 0.0
    if result.status in _ENDED_BADLY:
        return 2, 0.0
    return (1, _p50(result)) if result.benchmark else (3, 0.0)


def _p50(result: CandidateResult) -> float:
    return result.benchmark.latency[0].latency_p50_ms.estimate if result.benchmark else 0.0


def _cells(result: CandidateResult) -> tuple[str, ...]:
    benchmark, score = result.benchmark, result.score
    status = "first look" if result.status is CandidateStatus.BUILT and benchmark else result.status.value
    return (
        result.candidate.label + (" (baseline)" if result.baseline else ""),
        status + (" (front)" if result.on_front else "") + (" (taken over)" if result.taken_over else ""),
        f"{benchmark.latency[0].latency_p50_ms.estimate:.4g}" if benchmark else "",
        f"{score.estimate:.1%}" if score else "",
        f"{benchmark.size_bytes / 1024:.0f}" if benchmark else "",
        result.reason,
    )
