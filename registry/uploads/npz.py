"""Sets as ``.npz``: a zip archive of NumPy arrays, each held to what its header declares before anybody allocates that.

Source: numpy/lib/format.py, format versions 1.0 to 3.0.
"""

import ast
import re
from math import prod

from registry.errors import InputError
from registry.uploads.archive import Archive
from registry.uploads.limits import MAX_DATASET_BYTES
from registry.uploads.member import Member

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 10_000
"""NumPy's own bound for what it evaluates."""
_MAX_AXES = 64
_DESCR = re.compile(r"[<>|=]?([biufcSUV])(\d{1,9})")
_CHARACTER_BYTES = 4
_ADVICE = "save it with numpy.savez"


def check_npz(archive: Archive) -> None:
    """Check every array of a set, its bytes and checksum among it.

    Raises:
        InputError: a member is no array of numbers or text, holds other than it declares, or all are too large.
    """
    if not archive.members:
        raise InputError(f"the set holds no array; {_ADVICE}")
    if archive.unpacked_bytes > MAX_DATASET_BYTES:
        raise InputError(
            f"the set declares {archive.unpacked_bytes} bytes of values, more than the limit of {MAX_DATASET_BYTES}; "
            "give fewer samples"
        )
    for member in archive.members:
        if not member.name.endswith(".npy") or "/" in member.name:
            raise InputError(f"the set holds {member.name!r}, which is not an array; {_ADVICE}")
        pieces = archive.read(member)
        head = b""
        while len(head) < min(member.size, len(_MAGIC) + 6 + _MAX_HEADER_BYTES) and (piece := next(pieces, b"")):
            head += piece
        _check_header(member, head)
        for _ in pieces:
            pass


def _check_header(member: Member, head: bytes) -> None:
    if head[:6] != _MAGIC or len(head) < 12 or head[6] not in (1, 2, 3):
        raise InputError(f"{member.name!r} is not an array; {_ADVICE}")
    width = 2 if head[6] == 1 else 4
    start = 8 + width
    length = int.from_bytes(head[8:start], "little")
    if length > _MAX_HEADER_BYTES:
        raise InputError(f"{member.name!r} has a header of {length} bytes; the limit is {_MAX_HEADER_BYTES}")
    itemsize, shape = _declared(member, head[start : start + length].decode("latin-1"))
    declared = start + length + itemsize * prod(shape)
    if declared != member.size:
        raise InputError(
            f"{member.name!r} has {member.size} bytes, but its header declares the shape {list(shape)}, which takes "
            f"{declared}"
        )


def _declared(member: Member, text: str) -> tuple[int, tuple[int, ...]]:
    """Return the bytes of one element and the shape that a header declares."""
    try:
        header = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise InputError(f"{member.name!r} has a header that cannot be read; {_ADVICE}") from error
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise InputError(f"{member.name!r} has a header that cannot be read; {_ADVICE}")
    descr, shape = header["descr"], header["shape"]
    if isinstance(descr, str) and descr.endswith("O"):
        raise InputError(
            f"{member.name!r} is an array of Python objects, expected numbers; objects are never unpickled: convert it "
            "with .astype and save it again"
        )
    kind = _DESCR.fullmatch(descr) if isinstance(descr, str) else None
    if kind is None:
        raise InputError(f"{member.name!r} has the type {str(descr)[:80]!r}, expected numbers or text; convert it")
    sizes = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or len(shape) > _MAX_AXES:
        raise InputError(f"{member.name!r} has the shape {str(shape)[:80]}, which no array has; {_ADVICE}")
    return int(kind[2]) * (_CHARACTER_BYTES if kind[1] == "U" else 1), shape
