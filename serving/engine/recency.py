"""Recency: the order in which loaded versions go, oldest use first, those that were used again after the others.

A segmented LRU. Where thousands of models share a budget, most loads are for models that are not asked again soon; with
one list each of them pushes out a model that is asked all the time.

Source: R. Karedla, J. S. Love, B. G. Wherry, "Caching strategies to improve disk system performance", IEEE Computer
27(3), 1994.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from serving.engine.slot import Slot

_PROTECTED_SHARE = 0.8
"""Of the loaded versions, how many at most are kept apart for having been used again."""


class Recency:
    """Loaded versions in the order in which they go."""

    def __init__(self) -> None:
        """Nothing is loaded."""
        self._once: OrderedDict[Slot, None] = OrderedDict()
        self._again: OrderedDict[Slot, None] = OrderedDict()

    def __iter__(self) -> Iterator[Slot]:
        """Whoever goes first comes first."""
        return chain(self._once, self._again)

    def add(self, slot: Slot) -> None:
        """Take in a version that was loaded for its first use."""
        self._once[slot] = None
        self._keep_share()

    def touch(self, slot: Slot) -> None:
        """Count one more use."""
        try:
            self._again.move_to_end(slot)
        except KeyError:
            del self._once[slot]
            self._again[slot] = None
            self._keep_share()

    def demote(self, slot: Slot) -> None:
        """Let a version be the first to go."""
        self.remove(slot)
        self._once[slot] = None
        self._once.move_to_end(slot, last=False)

    def remove(self, slot: Slot) -> None:
        """Forget a version that is loaded no more."""
        (self._again if slot in self._again else self._once).pop(slot)

    def _keep_share(self) -> None:
        """Let those go back whose latest use is longest ago; there they have the time of one that was just loaded."""
        while len(self._again) > _PROTECTED_SHARE * (len(self._once) + len(self._again)):
            oldest, _ = self._again.popitem(last=False)
            self._once[oldest] = None
