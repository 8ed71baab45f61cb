"""Entity tags: what something is now as ``ETag``, and what a caller has seen of it as ``If-Match``, ``If-None-Match``.

The tag of what a route alone says is its generation, ``"7"``; views that say more add a digest of it, ``"7-3fa9c0d1"``.
A record without generations, such as a tenant, has a digest of itself in the place of one.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Header, HTTPException, Response

from flows import api_names
from registry.errors import InputError, VersionConflict
from registry.records.base import Record

R = TypeVar("R", bound=Record)

IfMatch = Annotated[
    str | None,
    Header(description='Refuse with 412 if the ETag is another by now, such as `"7"`.', max_length=1000),
]

IfNoneMatch = Annotated[
    str | None, Header(description="Answer 304 without a body if the ETag is still this one.", max_length=1000)
]

_ETAG_HEADER = {"headers": {"ETag": {"description": "Of what is answered.", "schema": {"type": "string"}}}}
TAGGED: dict[int | str, dict[str, Any]] = {200: _ETAG_HEADER, 304: {"description": "The caller has it already."}}
"""What OpenAPI says of an answer with a tag, besides the answer itself."""

CHANGED: dict[int | str, dict[str, Any]] = {200: _ETAG_HEADER}
"""What OpenAPI says of the answer to a change."""

_TAG = re.compile(r'(W/)?"([^"]*)"')
_DIGEST = re.compile(r"([0-9a-f]+)(-[0-9a-f]+)?")
_GENERATION = re.compile(r"(\d{1,9})(-[0-9a-f]+)?")
_VIEW_DIGITS = 12


def tag(generation: int, view: Record | None = None) -> str:
    """Return the entity tag of a route, or of a view that says more than the route."""
    return f'"{generation}"' if view is None else f'"{generation}-{_short(view)}"'


def record_tag(record: Record, view: Record) -> str:
    """Return the entity tag of a view that says a record without generations, and more."""
    return f'"{_short(record)}-{_short(view)}"'


def answer(view: Record, etag: str, if_none_match: str | None) -> Response:
    """Return a view under its tag; 304 without a body if the caller has it already."""
    headers = {"ETag": etag}
    given = if_none_match or ""
    if given.strip() == "*" or etag in (f'"{found}"' for _, found in _TAG.findall(given)):
        return Response(status_code=304, headers=headers)
    return api_names.answer(view, headers=headers)


def expected(if_match: str | None, generation: int | None, current: int) -> int | None:
    """Return the generation that a change may replace, from ``If-Match`` and from the body.

    Args:
        if_match: the header.
        generation: what the body expects.
        current: the route's generation now, 0 for no route.

    Raises:
        HTTPException: 412, no tag of the header is that of the route.
        InputError: the header and the body expect different generations.
    """
    if if_match is None:
        return generation
    seen = {int(found[1]) for found in map(_GENERATION.fullmatch, _strong_tags(if_match)) if found}
    if if_match.strip() == "*":
        seen = {current} - {0}
    if generation is not None and generation not in seen:
        raise InputError(f"If-Match says {if_match}, expected_generation says {generation}; give one of the two")
    if current not in seen:
        raise HTTPException(
            412, f'the route\'s ETag is "{current}", not {if_match}; look at what is live, decide again'
        )
    return current


def unchanged(if_match: str | None, read: Callable[[], R]) -> R | None:
    """Return the record that a change may replace, None for whichever it is.

    Args:
        if_match: the header.
        read: returns the record as it is now.

    Raises:
        HTTPException: 412, no tag of the header is that of the record.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    current = read()
    seen = {found[1] for found in map(_DIGEST.fullmatch, _strong_tags(if_match)) if found}
    if _short(current) not in seen:
        raise HTTPException(412, f"If-Match says {if_match}, and it is another by now; read it again, decide again")
    return current


@contextmanager
def precondition(if_match: str | None) -> Iterator[None]:
    """Make a lost race 412 where the caller has said what they have seen by ``If-Match``."""
    try:
        yield
    except VersionConflict as error:
        if if_match is None:
            raise
        raise HTTPException(412, str(error)) from error


def _strong_tags(header: str) -> Iterator[str]:
    return (found for weak, found in _TAG.findall(header) if not weak)


def _short(record: Record) -> str:
    return record.digest[:_VIEW_DIGITS]
