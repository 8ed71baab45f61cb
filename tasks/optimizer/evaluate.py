"""Run a whole set of samples through a session, in batches that its signature allows."""

from pathlib import Path

import numpy as np

from registry.errors import CandidateError
from registry.records.model import Signature
from serving.runtime import Array, Arrays, Session

BATCH_SIZE = 32


def predict_all(session: Session, inputs: Arrays) -> Arrays:
    """Return every output for every sample; axis 0 of inputs and outputs is the sample.

    A signature whose axis 0 varies takes batches of 32. One whose outputs do not keep the sample on axis 0 is run
    sample by sample, one with a fixed axis 0 that many samples at a time.

    Raises:
        CandidateError: outputs of a fixed batch do not have the batch on axis 0, so they belong to no sample.
    """
    size = _batch_size(session.signature)
    total = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, total, size):
        batch = {name: np.ascontiguousarray(array[start : start + size]) for name, array in inputs.items()}
        count = min(size, total - start)
        parts.append({name: _by_sample(name, output, count) for name, output in session.run(batch).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def load_arrays(path: Path) -> Arrays:
    """Read arrays that Burnish wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _batch_size(signature: Signature) -> int:
    if signature.batched:
        return BATCH_SIZE
    fixed = {spec.shape[0] for spec in signature.inputs if spec.shape and spec.shape[0] is not None}
    return max(fixed, default=1)


def _by_sample(name: str, output: Array, count: int) -> Array:
    if count == 1 and output.shape[:1] != (1,):
        return output[None]
    if output.shape[:1] != (count,):
        raise CandidateError(
            f"the output {name!r} has the shape {list(output.shape)} for {count} samples; its axis 0 must be the batch"
        )
    return output
