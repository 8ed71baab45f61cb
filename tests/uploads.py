"""Small files that may come in: what the control API takes for a model and for a set."""

import io

import numpy as np

from tests.unit.registry.uploads.models import model
from tests.unit.registry.uploads.zips import zipped

ONNX = model().SerializeToString()


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones((3, 4), np.float32))
    return buffer.getvalue()


BY_SUFFIX = {".onnx": ONNX, ".pt2": zipped({"net/archive_format": b"pt2"}), ".npz": _npz()}
