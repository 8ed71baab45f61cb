"""What the demo shows: headings, progress lines, tables, links."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from burnish.replies import Candidate, Optimization


class Screen:
    """A terminal that tells the story; every line is also readable in a log."""

    def __init__(self, console: Console) -> None:
        """Write to a console."""
        self._console = console
        self._last = ""

    def heading(self, text: str) -> None:
        """Begin a chapter."""
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left")

    def say(self, text: str) -> None:
        """Tell one thing."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def progress(self, optimization: Optimization) -> None:
        """Tell where an optimization stands, once for each change; for ``on_update``."""
        line = f"  {optimization.stage or optimization.state}"
        if optimization.stage == "candidates" and optimization.candidates_total:
            line += f" {optimization.candidates_done} of {optimization.candidates_total}: {optimization.message}"
        if line != self._last:
            self._console.print(line, style="dim", highlight=False, soft_wrap=True)
            self._last = line

    def candidates(self, found: Sequence[Candidate]) -> None:
        """Show the table of candidates with the gate's verdicts and why each one lost."""
        table = Table("", "candidate", "p50 ms, 95 %", "score", "KiB", "gate", "why")
        tried = [candidate for candidate in found if candidate.status != "skipped"]
        for candidate in sorted(tried, key=_fastest_first):
            p50 = candidate.latency_p50_ms
            table.add_row(
                "★" if candidate.chosen else "",
                candidate.label + (" (baseline)" if candidate.baseline else ""),
                f"{p50.estimate:.3f} ({p50.low:.3f}-{p50.high:.3f})" if p50 else "",
                f"{candidate.score.estimate:.4f}" if candidate.score else "",
                f"{candidate.size_bytes / 1024:.0f}" if candidate.size_bytes else "",
                "passed" if all(rule.passed for rule in candidate.rules) else candidate.status,
                "the winner" if candidate.chosen else candidate.reason,
                style="bold green" if candidate.chosen else None,
            )
        self._console.print(table)
        skipped = Counter(candidate.reason for candidate in found if candidate.status == "skipped")
        for reason, count in skipped.items():
            self.say(f"  {count} more were not tried: {reason}")

    def links(self, links: dict[str, str]) -> None:
        """Show links, one a line."""
        width = max(len(name) for name in links)
        for name, url in links.items():
            self._console.print(f"  {name:<{width}}  {url}", highlight=False, soft_wrap=True)


def _fastest_first(candidate: Candidate) -> float:
    return candidate.latency_p50_ms.estimate if candidate.latency_p50_ms else float("inf")
