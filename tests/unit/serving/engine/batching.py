"""Limits and requests of the batcher's tests."""

import numpy as np

from serving.engine.batcher import BatchLimits
from serving.runtime import Arrays


def limits(*, together: bool = True, inline_rows: int = 0, max_waiting: int = 100) -> BatchLimits:
    return BatchLimits(
        together=together, max_batch_size=4, inline_rows=inline_rows, seconds_per_run=0.001, max_waiting=max_waiting
    )


def rows(*values: float, width: int = 2) -> Arrays:
    return {"x": np.array([[value] * width for value in values], np.float32)}
