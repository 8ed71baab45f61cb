"""How large an upload may be, as sent and unpacked."""

from dataclasses import dataclass

MAX_DATASET_BYTES = 4 * 2**30
"""Declared size of all arrays of a set together; every reader stops at the declared size."""

MAX_ONNX_BYTES = 2 * 2**30
"""Where protobuf ends: a larger ONNX model keeps its weights in files of their own."""

SMALL_BYTES = 64 * 2**20
"""What unpacks to less is harmless whatever its ratio: an array of zeros shrinks a thousandfold."""


@dataclass(frozen=True)
class UploadLimits:
    """The bounds of one upload."""

    max_bytes: int = 8 * 2**30
    """As it is sent."""
    unpacked_bytes: int = 16 * 2**30
    """All files of an archive together."""
    members: int = 10_000
    """Files in an archive."""
    ratio: int = 100
    """Unpacked bytes by packed ones, where an archive unpacks to more than ``SMALL_BYTES``."""
