"""What candidates did in earlier searches, on this machine and others, and what that says of a new source."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from registry.records.base import Digest, Record
from registry.records.model import PluginConfig
from tasks.optimizer.catalogue import Features
from tasks.optimizer.repair import EXCLUDED_LAYERS
from tasks.optimizer.space import Chain
from tasks.optimizer.strategy import Trial

HISTORY_FILE = "history.jsonl"

_READ_BYTES = 8 * 2**20
"""The end of the file that is read: some ten thousand candidates."""

_ALIKE = 0.3
"""The sum of similarities from which a chain counts as known."""

_OTHER_MACHINE = 0.3
"""What an entry from another machine or other libraries weighs beside one from here."""

_MOST_FIRST = 1
"""Earlier winners that are tried before everything else."""


class Circumstances(Record):
    """What a search was about."""

    features: Features
    threads: int = Field(ge=1)
    batch_sizes: tuple[int, ...]
    environment: Digest


class Entry(Record):
    """What one candidate did in one search."""

    about: Circumstances
    recipe: tuple[PluginConfig, ...]
    runtime: PluginConfig
    ratio: float | None = Field(default=None, gt=0, description="p50 latency over the baseline's; None: not measured.")
    passed: bool
    seconds: float = Field(ge=0, description="To build, judge and screen it.")

    @property
    def gain(self) -> float:
        """The logarithm of the speed-up; 0 if it did not pass or was slower."""
        return max(0.0, -math.log(self.ratio)) if self.passed and self.ratio else 0.0


@dataclass(frozen=True)
class Advice:
    """The chains in the order of expected gain, and what to try before all of them."""

    chains: tuple[Chain, ...]
    first: tuple[Trial, ...]


class History:
    """A file of JSON lines, one a finished candidate, to which several searches may add at the same time."""

    def __init__(self, file: Path) -> None:
        """Read what is there; lines that cannot be read are counted and passed over."""
        self._file = file
        self.skipped = 0
        """Lines that are no entries."""
        self._entries = self._read()

    def add(self, entry: Entry) -> None:
        """Add one line, whole even if other processes add too."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # A line feed before it as well: the last line may have been cut off by a kill.
        line = "\n" + json.dumps(entry.model_dump(mode="json"), separators=(",", ":")) + "\n"
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def advise(self, about: Circumstances, chains: Sequence[Chain]) -> Advice:
        """Order chains by the gain per second that similar models had of them.

        Known to gain first; then those of which nothing is known, in their given order; last those that never gained.

        Args:
            about: the new search.
            chains: in the order that holds where nothing is known.
        """
        weighed = [(entry, similarity(entry.about, about)) for entry in self._entries]
        by_name: dict[str, list[tuple[Entry, float]]] = defaultdict(list)
        for entry, weight in weighed:
            by_name[_chain_name(entry)].append((entry, weight))
        rates = {chain.name: _rate(by_name[chain.name]) for chain in chains}
        ordered = sorted(chains, key=lambda chain: _group(rates[chain.name]))
        return Advice(tuple(ordered), tuple(_winners(weighed, chains)))

    def _read(self) -> tuple[Entry, ...]:
        try:
            with self._file.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - _READ_BYTES))
                lines = stream.read().splitlines()[1 if size > _READ_BYTES else 0 :]
        except OSError:
            return ()
        entries = []
        for line in filter(None, lines):
            try:
                entries.append(Entry.model_validate_json(line))
            except ValidationError:
                self.skipped += 1
        return tuple(entries)


def similarity(one: Circumstances, other: Circumstances) -> float:
    """From 0 to 1: how much what was seen in one search says of another.

    The angle between the logarithms of the operator counts, the ratio of the sizes, rank and format of the input,
    threads and batch sizes; each difference divides.
    """
    first, second = one.features, other.features
    apart = 4 * (1 - _cosine(first.operators, second.operators))
    apart += 0.3 * abs(math.log((1 + first.size_bytes) / (1 + second.size_bytes)))
    apart += (first.input_rank != second.input_rank) + 0.3 * (first.format != second.format)
    apart += 0.3 * (one.threads != other.threads) + 0.3 * (one.batch_sizes != other.batch_sizes)
    return math.exp(-apart) * (1.0 if one.environment == other.environment else _OTHER_MACHINE)


def _cosine(first: dict[str, int], second: dict[str, int]) -> float:
    a = {name: math.log1p(count) for name, count in first.items()}
    b = {name: math.log1p(count) for name, count in second.items()}
    lengths = math.hypot(*a.values()) * math.hypot(*b.values())
    return sum(value * b.get(name, 0.0) for name, value in a.items()) / lengths if lengths else 0.0


def _rate(seen: list[tuple[Entry, float]]) -> float | None:
    """Expected gain per second, weighted by similarity; None if too little is known."""
    weight = sum(one for _, one in seen)
    if weight < _ALIKE:
        return None
    seconds = sum(one * entry.seconds for entry, one in seen)
    return sum(one * entry.gain for entry, one in seen) / max(seconds, 1e-3)


def _group(rate: float | None) -> tuple[int, float]:
    if rate is None:
        return 1, 0.0
    return (0, -rate) if rate > 0 else (2, 0.0)


def _winners(weighed: list[tuple[Entry, float]], chains: Sequence[Chain]) -> list[Trial]:
    """What gained most for similar models, as trials of the chains of this search."""
    by_name = {chain.name: chain for chain in chains}
    found: dict[str, tuple[float, Trial]] = {}
    for entry, weight in weighed:
        chain = by_name.get(_chain_name(entry))
        if chain is None or weight < _ALIKE or entry.gain <= 0:
            continue
        settings = chain.settings(entry.recipe, entry.runtime)
        if any(address.endswith(f".{EXCLUDED_LAYERS}") for address in settings) or not set(settings) <= set(
            chain.knobs
        ):
            continue  # names of another model's layers, or knobs that are gone
        trial = Trial(chain, settings)
        found[trial.key] = max(found.get(trial.key, (0.0, trial)), (weight * entry.gain, trial), key=lambda one: one[0])
    best = sorted(found.values(), key=lambda one: -one[0])
    return [trial for _, trial in best[:_MOST_FIRST]]


def _chain_name(entry: Entry) -> str:
    steps = " > ".join(step.name for step in entry.recipe) or "source"
    return f"{steps} @ {entry.runtime.name}"
