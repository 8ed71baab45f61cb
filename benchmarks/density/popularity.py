"""Who is asked how often: Zipf's law over models, and which requests must be warm or cold."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]

EXPONENT = 1.1


class Temperature(NamedTuple):
    """Which requests surely found their model loaded, and which surely did not."""

    warm: npt.NDArray[np.bool_]
    cold: npt.NDArray[np.bool_]


def zipf(models: int, count: int, rng: np.random.Generator) -> Places:
    """Draw places of models; place 0 is asked most.

    Source: the probability of rank k is k**-s over the sum of all (Zipf's law), with s = 1.1.
    """
    weights = np.arange(1, models + 1, dtype=np.float64) ** -EXPONENT
    return np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(count)).astype(np.int64).clip(0, models - 1)


class History:
    """What one engine was asked, from its start."""

    def __init__(self, models: int) -> None:
        """Nothing was asked yet."""
        self._asked_at = np.full(models, -1, np.int64)
        self._count = 0

    def take(self, places: Places, resident: int) -> Temperature:
        """Tell the requests of a load apart, and take them into the history.

        A model asked again within a fifth as many requests as models stay loaded is warm, whatever came between: the
        engine has at least so much room for models that were asked once. One never asked before is cold. The others are
        neither for sure.
        """
        warm, cold = np.zeros(len(places), bool), np.zeros(len(places), bool)
        for number, place in enumerate(places.tolist()):
            before = self._asked_at[place]
            now = self._count + number
            warm[number] = before >= 0 and now - before <= resident // 5
            cold[number] = before < 0
            self._asked_at[place] = now
        self._count += len(places)
        return Temperature(warm, cold)
