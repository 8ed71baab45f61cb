"""Pages of lists: how many at most, and an opaque cursor that says where the next page begins."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query

from registry.digest import json_digest
from registry.errors import InputError

DEFAULT_LIMIT = 100
MAX_LIMIT = 500

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before; none: the first page.")]
Next = str | None
"""The cursor of the next page in an answer; None: this was the last one."""

_LIST_DIGITS = 16
_MAX_NUMBER = 2**31 - 1

T = TypeVar("T")


def number(part: Any) -> int:  # noqa: ANN401  whatever a cursor holds
    """Read a generation or a version number."""
    if not isinstance(part, int) or not 0 <= part <= _MAX_NUMBER:
        raise ValueError("not a number")
    return part


def word(part: Any) -> str:  # noqa: ANN401
    """Read a name or an id."""
    if not isinstance(part, str) or not part.isascii() or not part.isprintable():
        raise ValueError("not a name")
    return part


def moment(part: Any) -> datetime:  # noqa: ANN401
    """Read a point in time."""
    return datetime.fromisoformat(part).astimezone(UTC)


def after(cursor: str | None, kinds: tuple[Callable[[Any], Any], ...], *listed: str | None) -> tuple[Any, ...] | None:
    """Return where a page begins: the place of the last item of the page before; None: at the beginning.

    Args:
        cursor: what the caller sent.
        kinds: what reads each part of a place, such as ``word``.
        listed: what is listed: the list's name and its filters, which must be those of the page before.

    Raises:
        InputError: the cursor was not made by this list with these filters.
    """
    if cursor is None:
        return None
    try:
        made_for, *place = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        if made_for == _made_for(listed) and len(place) == len(kinds):
            return tuple(read(part) for read, part in zip(kinds, place, strict=True))
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError):
        pass
    raise InputError("cursor: it is not one of this list with these filters; give `next` of the page before as it was")


def page(
    found: Sequence[T], limit: int, place: Callable[[T], tuple[Any, ...]], *listed: str | None
) -> tuple[tuple[T, ...], Next]:
    """Return at most ``limit`` of what was found, and the cursor of the next page if more was found.

    Args:
        found: the items, one more than ``limit`` where there are more.
        limit: how many at most.
        place: the place of an item in the order of the list.
        listed: the list's name and its filters.
    """
    items = tuple(found[:limit])
    if len(found) <= limit:
        return items, None
    return items, following(place(items[-1]), *listed)


def following(place: tuple[Any, ...], *listed: str | None) -> str:
    """Return the cursor of the page that begins after a place of a list."""
    parts = json.dumps([_made_for(listed), *place]).encode()
    return base64.urlsafe_b64encode(parts).decode()


def _made_for(listed: tuple[str | None, ...]) -> str:
    return json_digest(listed)[:_LIST_DIGITS]
