"""The table of candidates while a search runs: redrawn in place on a terminal, one line an ending elsewhere."""

from types import TracebackType

import click
from rich.console import Console
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
_OPEN = (CandidateStatus.PENDING, CandidateStatus.BUILT)


class Board:
    """A live table, one row a candidate."""

    def __init__(self, console: Console) -> None:
        """Draw nothing yet."""
        self._results: dict[str, CandidateResult] = {}
        self._live = Live(console=console, refresh_per_second=4, vertical_overflow="visible")

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
        """Draw one candidate's change."""
        self._results[result.candidate.id] = result
        self._live.update(self._table())

    def _table(self) -> Table:
        table = Table()
        for column in ("candidate", "status", "p50 ms", "score", "size KiB", "reason"):
            table.add_column(column, overflow="fold")
        for result in self._results.values():
            table.add_row(*(Text(cell) for cell in _cells(result)), style=_STYLES[result.status])
        return table


def show_lines(result: CandidateResult) -> None:
    """Write one line when a candidate has come to its end."""
    if result.status not in _OPEN:
        label, status, p50_ms, score, _, reason = _cells(result)
        figures = f" p50 {p50_ms} ms, score {score}" if p50_ms else ""
        click.echo(f"{label}: {status}{figures}" + (f": {reason}" if reason else ""))


def _cells(result: CandidateResult) -> tuple[str, ...]:
    benchmark, score = result.benchmark, result.score
    return (
        result.candidate.label + (" (baseline)" if result.baseline else ""),
        result.status.value + (" (front)" if result.on_front else ""),
        f"{benchmark.latency[0].latency_p50_ms.estimate:.4g}" if benchmark else "",
        f"{score.estimate:.1%}" if score else "",
        f"{benchmark.size_bytes / 1024:.0f}" if benchmark else "",
        result.reason,
    )
