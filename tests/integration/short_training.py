"""The training of the digits example, cut short: the tests of retraining name it, and its own process imports it."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import nn

from burnish.examples import digits


def train(window_inputs: Mapping[str, npt.NDArray[np.generic]], window_labels: digits.Labels, seed: int) -> nn.Module:
    """Train for a fifth of the example's epochs."""
    digits.EPOCHS = 6
    return digits.train(window_inputs, window_labels, seed)
