"""Calibration samples in batches."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from registry.errors import CandidateError
from registry.records.model import Signature

_BATCH = 32


def calibration_batches(
    inputs: Mapping[str, npt.NDArray[np.generic]], signature: Signature, samples: int
) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """Yield at most ``samples`` samples by input name, in batches of one size; a rest is left out.

    The size is what the signature fixes, otherwise 32 or, if there are fewer samples, all of them.

    Raises:
        CandidateError: there are not enough samples for one batch.
    """
    count = min(samples, *(len(inputs[spec.name]) for spec in signature.inputs))
    size = signature.inputs[0].shape[0] or min(_BATCH, count)
    if not 0 < size <= count:
        raise CandidateError(f"the calibration set has {count} samples, too few for a batch of {size or 1}")
    for start in range(0, count - size + 1, size):
        yield {spec.name: inputs[spec.name][start : start + size] for spec in signature.inputs}
