"""Compressed bodies of requests and answers: gzip and deflate.

Source: RFC 9110, sections 8.4 and 12.5.3; https://github.com/triton-inference-server/server, whose clients send and ask
for whole bodies in either; the length of the JSON before binary tensors is that of the body as it was before.
"""

import asyncio
import zlib

from registry.errors import InputError
from serving.engine.backlog import Backlog
from serving.engine.fair_turns import Tenant

SMALLEST_BYTES = 1024
"""Smaller answers fit into a packet or two as they are."""

_GZIP, _ZLIB = 31, 15
_FORMATS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_OFFERED = ("gzip", "deflate")
_LEVEL = 1  # tensors shrink little more at higher levels, which cost several times as much

ACCEPTED = (b"accept-encoding", ", ".join(_OFFERED).encode())
"""Tells a client what it may send."""


def is_known(coding: str) -> bool:
    """True if bodies in this coding can be read."""
    return coding in _FORMATS


def decompress(body: bytes, coding: str, limit: int) -> bytes:
    """Return a body as it was before, or its first ``limit`` + 1 bytes if it was larger: no more is ever allocated.

    Raises:
        InputError: it is not in this coding, or is cut short.
    """
    engine = zlib.decompressobj(_FORMATS[coding])
    try:
        found = engine.decompress(body, limit + 1)
    except zlib.error as error:
        raise InputError(f"the body is not {coding}, as content-encoding says: {error}") from error
    if len(found) <= limit and not engine.eof:
        raise InputError(f"the body in {coding} is cut short")
    if engine.unused_data:
        raise InputError(f"the body: {len(engine.unused_data)} bytes stand behind what is compressed in {coding}")
    return found


async def decompressed(body: bytes, coding: str, limit: int, backlog: Backlog, tenant: Tenant) -> bytes:
    """Decompress in a thread, for it may take long; the body counts as waiting of its tenant meanwhile.

    Raises:
        InputError: it is not in this coding, or is cut short.
        TransientError: as much waits as may, of this tenant (QueueFull) or of all.
    """
    held = backlog.enter_bytes(len(body), tenant)
    try:
        return await asyncio.to_thread(decompress, body, coding, limit)
    finally:
        backlog.leave(held, tenant)


def compress(body: bytes, coding: str) -> bytes:
    """Return a body in one of the offered codings."""
    engine = zlib.compressobj(_LEVEL, zlib.DEFLATED, _FORMATS[coding])
    return engine.compress(body) + engine.flush()


def choose(accepted: str) -> str | None:
    """Return the coding to answer in, by a client's ``accept-encoding``; None where it names none that is offered."""
    named = [part.partition(";") for part in accepted.lower().split(",")]
    wanted = {name.strip() for name, _, quality in named if not _refuses(quality)}
    return next((coding for coding in _OFFERED if coding in wanted), None)


def _refuses(quality: str) -> bool:
    """A quality of 0, with up to three decimals."""
    name, _, value = quality.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.", "0")
