"""Which columns stand for a tensor when two sets of samples are compared.

Few values a sample stand for themselves. Many (images, sequences) are summarised, at the same cost whatever their
number: the distribution of a sample's values, how much neighbours differ, and random projections, which see what
moved where. Classifier outputs become the predicted class and how sure it is.

Shape legend: n samples, d values of one sample, p projections.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

WIDE = 32
"""Inputs with more values a sample than this, all together, are summarised."""
PROJECTIONS = 8
_SEED = 0

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Named columns of one set of samples, each [n]."""

    numerical: dict[str, Floats] = field(default_factory=dict)
    categorical: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    @property
    def all(self) -> Mapping[str, Array]:
        """Every column by name."""
        return {**self.numerical, **self.categorical}


def to_columns(inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Columns:
    """Lay out samples as columns; the same names for every set with the same tensors.

    Args:
        inputs: by name, axis 0 the samples.
        outputs: by name, axis 0 the samples; may be empty.
    """
    columns = Columns()
    flat = {name: _flat(array) for name, array in inputs.items()}
    wide = sum(values_nd.shape[1] for values_nd in flat.values()) > WIDE
    for name, values_nd in flat.items():
        columns.numerical.update(_finite_columns(name, values_nd, wide=wide))
    for name, array in outputs.items():
        if array.ndim == 2 and array.shape[1] > 1:
            columns.categorical[f"{name}:class"] = array.argmax(axis=1).astype(np.int64)
            columns.numerical[f"{name}:margin"] = _margin(_flat(array))
        else:
            columns.numerical.update(_finite_columns(name, _flat(array), wide=array[:1].size > WIDE))
    return columns


def _flat(array: Array) -> Floats:
    return array.reshape(len(array), -1).astype(np.float64)


def _finite_columns(name: str, values_nd: Floats, *, wide: bool) -> Iterator[tuple[str, Floats]]:
    """NaN and infinities are counted in a column of their own and are 0 in the others."""
    finite = np.isfinite(values_nd)
    yield f"{name}:not finite", (~finite).sum(axis=1).astype(np.float64)
    values_nd = np.where(finite, values_nd, 0)
    if wide:
        yield from _summary(name, values_nd)
    elif values_nd.shape[1] == 1:
        yield name, values_nd[:, 0]
    else:
        yield from ((f"{name}[{place}]", values_nd[:, place]) for place in range(values_nd.shape[1]))


def _summary(name: str, values_nd: Floats) -> Iterator[tuple[str, Floats]]:
    yield f"{name}:mean", values_nd.mean(axis=1)
    yield f"{name}:std", values_nd.std(axis=1)
    yield f"{name}:min", values_nd.min(axis=1)
    yield f"{name}:max", values_nd.max(axis=1)
    for percent, column in zip((10, 50, 90), np.percentile(values_nd, (10, 50, 90), axis=1), strict=True):
        yield f"{name}:p{percent}", column
    if values_nd.shape[1] > 1:
        yield f"{name}:step", np.abs(np.diff(values_nd, axis=1)).mean(axis=1)
    directions_dp = np.random.default_rng(_SEED).standard_normal((values_nd.shape[1], PROJECTIONS))
    for place, column in enumerate((values_nd @ directions_dp).T):
        yield f"{name}:projection {place}", column / np.sqrt(values_nd.shape[1])


def _margin(values_nd: Floats) -> Floats:
    """The largest value less the second largest."""
    top = np.partition(values_nd, -2, axis=1)
    return top[:, -1] - top[:, -2]
