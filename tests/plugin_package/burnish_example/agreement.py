"""How near the answers are to the true ones, as a score from 0 to 1."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


def agreement(outputs: Mapping[str, Array], labels: Array | None, reference: Mapping[str, Array]) -> Array:
    """One less the mean distance to the source's outputs, in their standard deviation."""
    name = next(iter(reference))
    theirs, ours = (values[name].astype(np.float64).reshape(len(values[name]), -1) for values in (reference, outputs))
    return np.asarray(1 - np.minimum(np.abs(ours - theirs).mean(axis=1) / theirs.std(), 1))
