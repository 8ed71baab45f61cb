"""Experience: what versions have cost, and so what the next one alike will cost."""

from dataclasses import replace

from registry.records.model import PluginConfig, ServedVersion
from serving.engine.budget import MEMORY, Amounts, Cost

_GUESSED_RATIO = 2
_GUESSED_EXTRA = 2**19
_SURE_AFTER = 8


class Experience:
    """What versions have cost, by runtime and rough size."""

    def __init__(self, bounds: Amounts) -> None:
        """Take what may be held at all: no guess is above it, unless the artifact itself is."""
        self._bounds = bounds
        self._seen: dict[tuple[str, int], tuple[int, int, Cost]] = {}

    def expected(self, served: ServedVersion) -> Cost:
        """Return what one of this runtime and size cost lately, else a guess from the size of the artifact."""
        size = served.artifact.size_bytes
        seen = self._seen.get(_kind(served))
        if seen is None:
            guess = max(size, min(_GUESSED_RATIO * size + _GUESSED_EXTRA, self._bounds[MEMORY]))
            return Cost((guess, *(0,) * (len(self._bounds) - 1)), guess)
        _, seen_size, cost = seen
        scale = max(1.0, size / max(seen_size, 1))
        return replace(cost, held=(int(cost.held[MEMORY] * scale), *cost.held[1:]), loading=int(cost.loading * scale))

    def has_seen(self, served: ServedVersion) -> bool:
        """True if one of this runtime and size was measured, so that what is expected is no guess."""
        return _kind(served) in self._seen

    def sure(self, served: ServedVersion) -> bool:
        """True once enough of this kind were measured that threads and devices need not be looked at on each load."""
        seen = self._seen.get(_kind(served))
        return seen is not None and seen[0] >= _SURE_AFTER

    def knows(self, runtime: PluginConfig) -> bool:
        """True if a runtime has loaded something."""
        return any(label == runtime.label for label, _ in tuple(self._seen))  # another thread may learn meanwhile

    def learn(self, served: ServedVersion, cost: Cost) -> None:
        """Keep what a load has cost: of each thing the mean, where the latest loads count most."""
        kind, size = _kind(served), served.artifact.size_bytes
        count, seen_size, before = self._seen.get(kind, (0, size, cost))
        self._seen[kind] = (
            count + 1,
            int(_drawn(seen_size, size)),
            Cost(
                tuple(int(_drawn(old, new)) for old, new in zip(before.held, cost.held, strict=True)),
                max(cost.loading, int(_drawn(before.loading, cost.loading))),
                _quickest(before.opening_s, cost.opening_s),
            ),
        )

    def learn_work(self, served: ServedVersion, opening_s: float) -> None:
        """Keep how long it took to open one of a kind of which the rest is known."""
        kind = _kind(served)
        count, size, cost = self._seen[kind]
        self._seen[kind] = count, size, replace(cost, opening_s=_quickest(cost.opening_s, opening_s))


def _kind(served: ServedVersion) -> tuple[str, int]:
    return served.runtime.label, served.artifact.size_bytes.bit_length()


def _drawn(old: float, new: float) -> float:
    """A mean that follows."""
    return old + (new - old) / 4


def _quickest(old: float, new: float) -> float:
    """What it takes undisturbed: beside others that compete for caches and locks the same work takes twice as long."""
    return min(new, _drawn(old, new))
