"""What the data checks look at: a few figures a sample, at the same cost whatever the size of a sample.

Shape legend: n samples, d values of one sample.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

DIGEST = "digest"
LABEL = "label"
_CHUNK_ROWS = 256

Array = npt.NDArray[np.generic]


def samples_frame(inputs: Mapping[str, Array], labels: Array | None = None) -> pd.DataFrame:
    """One row a sample: per input its type, shape, smallest and largest value and count of NaN or infinite values.

    ``digest`` is the same for samples whose inputs are the same bytes. Integer labels are the column ``label``, others
    have figures like an input's.
    """
    columns: dict[str, object] = {}
    for name, array in inputs.items():
        columns[f"{name}:datatype"] = array.dtype.name
        columns[f"{name}:shape"] = str(list(array.shape[1:]))
        columns |= {f"{name}:{figure}": values for figure, values in _figures(array).items()}
    columns[DIGEST] = sample_digests(inputs)
    if labels is not None and labels.dtype.kind in "iu" and labels.ndim == 1:
        columns[LABEL] = labels
    elif labels is not None:
        columns |= {f"{LABEL}:{figure}": values for figure, values in _figures(labels).items()}
    return pd.DataFrame(columns)


def sample_digests(inputs: Mapping[str, Array]) -> list[str]:
    """A digest of each sample's inputs."""
    arrays = [np.ascontiguousarray(inputs[name]) for name in sorted(inputs)]
    digests = []
    for row in range(len(arrays[0])):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(array[row].tobytes())
        digests.append(digest.hexdigest())
    return digests


def _figures(array: Array) -> dict[str, npt.NDArray[np.generic]]:
    """NaN and infinities are counted, and left out of the smallest and the largest value."""
    chunks = [array[start : start + _CHUNK_ROWS] for start in range(0, max(1, len(array)), _CHUNK_ROWS)]
    flat = [chunk.reshape(len(chunk), math.prod(chunk.shape[1:])).astype(np.float64) for chunk in chunks]
    finite = [np.isfinite(values_nd) for values_nd in flat]
    pairs = list(zip(flat, finite, strict=True))
    return {
        "not finite": np.concatenate([(~ok).sum(axis=1) for _, ok in pairs]),
        "min": np.concatenate([values_nd.min(axis=1, initial=np.inf, where=ok) for values_nd, ok in pairs]),
        "max": np.concatenate([values_nd.max(axis=1, initial=-np.inf, where=ok) for values_nd, ok in pairs]),
    }
