"""Long lists, made some entries at a time, so that requests have their turn in between."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

import orjson

T = TypeVar("T")

AT_ONCE = 200
"""Entries that are made before other work on the loop gets its turn."""


async def in_slices(entries: Iterable[T]) -> AsyncIterator[list[T]]:
    """Yield what an iterator gives, some at a time; it must not mind what changes between two of them."""
    remaining = iter(entries)
    while some := list(islice(remaining, AT_ONCE)):
        yield some
        await asyncio.sleep(0)


async def json_list(entries: Iterable[object]) -> bytes:
    """Write entries as a list."""
    return b"[%s]" % b",".join([orjson.dumps(some)[1:-1] async for some in in_slices(entries)])


async def json_object(entries: Iterable[tuple[str, object]]) -> bytes:
    """Write names and values as an object."""
    return b"{%s}" % b",".join([orjson.dumps(dict(some))[1:-1] async for some in in_slices(entries)])
