"""Compare a candidate's outputs with the source model's, value by value."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.errors import CandidateError
from registry.records.optimization import NumericalComparison
from serving.runtime import Array

RELATIVE_TOLERANCE = 1e-3
"""Of the reference's value. Source: the default of torch.onnx's verification; float32 kernels that add in another order
stay within 1e-5, bfloat16 (2^-8) and int8 do not stay within it."""

SCALED_TOLERANCE = 1e-4
"""Of the output's root mean square, for values near 0, where a relative difference says nothing."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How far two arrays are apart: at the worst value, in absolute terms and against the output's size."""

    sample: int
    max_abs: float
    max_rel: float
    """The largest |difference| / max(|reference|, root mean square of the reference)."""
    within_tolerance: bool


def compare(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> NumericalComparison:
    """Compare all outputs and name the worst output and the worst sample.

    Equivalent means that every float is within 1e-3 of its size plus 1e-4 of its output's root mean square, and every
    integer and boolean is equal.

    Args:
        reference: the source model's outputs by name, axis 0 the samples.
        candidate: the candidate's.

    Raises:
        CandidateError: an output is missing, has another shape, or is not finite where the source's is.
    """
    missing = [name for name in reference if name not in candidate]
    if missing:
        raise CandidateError(f"the output {missing[0]!r} is missing; the candidate gives {', '.join(candidate)}")
    differences = {name: _checked(name, reference[name], candidate[name]) for name in reference}
    worst = max(differences, key=lambda name: (not differences[name].within_tolerance, differences[name].max_rel))
    return NumericalComparison(
        output=worst,
        sample=differences[worst].sample,
        max_abs_difference=differences[worst].max_abs,
        max_rel_difference=differences[worst].max_rel,
        equivalent=all(difference.within_tolerance for difference in differences.values()),
    )


def _checked(name: str, reference: Array, candidate: Array) -> Difference:
    if candidate.shape != reference.shape:
        raise CandidateError(
            f"the output {name!r} has the shape {list(candidate.shape)}, expected {list(reference.shape)} as the source"
        )
    broken = np.isfinite(reference) & ~np.isfinite(candidate)
    if bool(np.any(broken)):
        first = np.argwhere(broken)[0]
        raise CandidateError(
            f"the output {name!r} holds {candidate[tuple(first)]} in sample {first[0] if first.size else 0}, where the "
            f"source gives {reference[tuple(first)]}"
        )
    return difference(reference, candidate)


def difference(reference: Array, candidate: Array) -> Difference:
    """Measure how far two arrays of one shape are apart; values that are equal or both NaN do not differ."""
    theirs, ours = np.atleast_1d(reference), np.atleast_1d(candidate)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    exact = theirs.dtype.kind != "f" or ours.dtype.kind != "f"
    theirs_64, ours_64 = theirs.astype(np.float64), ours.astype(np.float64)
    size = np.where(np.isfinite(theirs_64), np.abs(theirs_64), 0.0)
    scale = float(np.sqrt(np.mean(size**2))) or 1.0 if size.size else 1.0
    with np.errstate(invalid="ignore"):
        apart: Floats = np.where(same, 0.0, np.abs(ours_64 - theirs_64))
    # Finite here and not there is a difference without bound, but records hold finite numbers only.
    apart = np.where(np.isfinite(apart), apart, float(np.finfo(np.float32).max))
    relative = apart / np.maximum(size, scale)
    allowed = np.zeros_like(size) if exact else SCALED_TOLERANCE * scale + RELATIVE_TOLERANCE * size
    worst = np.unravel_index(int(np.argmax(relative)), relative.shape) if relative.size else (0,)
    return Difference(
        sample=int(worst[0]),
        max_abs=float(apart.max(initial=0.0)),
        max_rel=float(relative.max(initial=0.0)),
        within_tolerance=bool(np.all(apart <= allowed)),
    )
