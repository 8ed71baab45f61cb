"""The range of int8 weights: 7 of the 8 bits where the processor's products of 8 bits saturate."""

import platform
from typing import Any

from registry.plugins import knob
from tasks.bench.environment import cpu_flags

LARGEST = 127
LARGEST_REDUCED = 63

_X86 = frozenset({"x86_64", "amd64"})


def products_saturate() -> bool:
    """True if this processor's int8 kernels lose what does not fit in 16 bits: x86 without VNNI.

    They add two products of an unsigned and a signed byte in 16 bits; where the signed ones have 7 bits, that fits.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "When to use reduce-range"
    """
    return platform.machine().lower() in _X86 and not any("vnni" in flag for flag in cpu_flags())


def reduce_range_knob() -> Any:  # noqa: ANN401
    """Declare the knob of a pass that makes int8 weights."""
    return knob(
        products_saturate(),
        search=(False, True),
        description="Weights of 7 bits, by default where the processor's products of 8 bits saturate (x86, no VNNI).",
    )


def largest_weight(*, reduce_range: bool) -> int:
    """Return the largest magnitude of an int8 weight."""
    return LARGEST_REDUCED if reduce_range else LARGEST
