"""What a hand-made line is: files written once, then a call as lean as its tool allows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from benchmarks.nets.base import Net, Samples
from serving.runtime import Array

Call = Callable[[Mapping[str, Array]], Array]
"""Inputs by name to the logits, on one thread."""


@dataclass(frozen=True)
class Prepared:
    """A net with its weights and its samples."""

    net: Net
    module: nn.Module
    samples: Samples


@dataclass(frozen=True)
class Line:
    """One way to make a net fast by hand."""

    name: str
    write: Callable[[Prepared, Path], None]
    """Write into an empty folder what ``open`` needs; whatever it raises is the reason why there is no such line."""
    open: Callable[[Prepared, Path], Call]
    """Load what was written."""
