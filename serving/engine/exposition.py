"""The text that Prometheus reads: families of samples, every sample under its exact name.

The library's own writer appends ``_total`` to the name of every counter; Triton's, which dashboards know, lack it.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, text format 0.0.4.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]


class Family(NamedTuple):
    """What all samples of one name are."""

    name: str
    kind: Kind
    help: str


class Exposition:
    """Samples in the order of their families; a family without samples is written too, so that one finds its name."""

    def __init__(self, labels: str) -> None:
        """Take the labels that every sample carries, such as ``worker="0"``."""
        self._labels = labels
        self._families: dict[Family, list[str]] = {}

    def add(self, family: Family, value: float, labels: str = "") -> None:
        """Add one sample; ``labels`` are its own, written out, without braces."""
        self._lines(family).append(f"{family.name}{{{self._joined(labels)}}} {value}")

    def add_histogram(
        self, family: Family, bounds: Sequence[float], buckets: Sequence[int], total: float, labels: str = ""
    ) -> None:
        """Add one histogram.

        Args:
            family: its family.
            bounds: upper bounds of the buckets, the last of which has none.
            buckets: how many values lie in each; empty if there were none.
            total: the sum of all values.
            labels: its own labels.
        """
        joined, lines, below = self._joined(labels), self._lines(family), 0
        for bound, count in zip((*bounds, "+Inf"), buckets or [0] * (len(bounds) + 1), strict=True):
            below += count
            lines.append(f'{family.name}_bucket{{{joined},le="{bound}"}} {below}')
        lines.append(f"{family.name}_sum{{{joined}}} {total}")
        lines.append(f"{family.name}_count{{{joined}}} {below}")

    def declare(self, family: Family) -> None:
        """Write a family even if it gets no sample."""
        self._lines(family)

    def text(self) -> bytes:
        """Everything that was added."""
        blocks = (
            "\n".join((f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}", *lines, ""))
            for family, lines in self._families.items()
        )
        return "".join(blocks).encode()

    def _joined(self, labels: str) -> str:
        return f"{labels},{self._labels}" if labels else self._labels

    def _lines(self, family: Family) -> list[str]:
        return self._families.setdefault(family, [])
