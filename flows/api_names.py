"""Names at the edge: answers call a tenant's models as the tenant does, never by their qualified names.

What a handler answers is a record already, so it is written as JSON where the handler runs, and not checked again.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from registry.records.tenant import QUALIFIED, split_name


def shortened(value: Any) -> Any:  # noqa: ANN401  whatever a handler answers
    """Return a value with every field that is declared a qualified name holding the model's name alone."""
    if isinstance(value, BaseModel):
        return _record(value)
    if isinstance(value, tuple):
        items = tuple(shortened(item) for item in value)
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def answer(record: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the answer that says a record, with short names."""
    body = shortened(record).model_dump_json()
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def short_text(text: str, names: Iterable[str]) -> str:
    """Return a message in which qualified names stand as their tenant writes them."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, split_name(name)[1])
    return text


class ShortNamesRoute(APIRoute):
    """A route whose answers, as far as they are records, have short names."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        """Shorten what the handler returns."""
        super().__init__(path, _short_answers(endpoint, options.get("status_code") or 200), **options)


def _short_answers(endpoint: Callable[..., Any], status: int) -> Callable[..., Any]:
    def written(found: Any) -> Any:  # noqa: ANN401
        return answer(found, status=status) if isinstance(found, BaseModel) else shortened(found)

    if inspect.iscoroutinefunction(endpoint):

        @functools.wraps(endpoint)
        async def handle_later(*args: Any, **named: Any) -> Any:  # noqa: ANN401
            return written(await endpoint(*args, **named))

        return handle_later

    @functools.wraps(endpoint)
    def handle(*args: Any, **named: Any) -> Any:  # noqa: ANN401
        return written(endpoint(*args, **named))

    return handle


def _record(record: BaseModel) -> BaseModel:
    changed: dict[str, Any] = {}
    kind = type(record)
    for field in _telling(kind):
        value = getattr(record, field)
        named = isinstance(value, str) and field in _names(kind)
        short = split_name(value)[1] if named else shortened(value)
        if short is not value:
            changed[field] = short
    return record.model_copy(update=changed) if changed else record


@functools.cache
def _names(kind: type[BaseModel]) -> frozenset[str]:
    """The fields of a record that are declared qualified names."""
    return frozenset(name for name, field in kind.model_fields.items() if QUALIFIED in field.metadata)


@functools.cache
def _telling(kind: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a record that may hold a qualified name, themselves or somewhere in what they hold."""
    fields = kind.model_fields.items()
    within = {name for name, field in fields if any(map(_telling, _kinds(field.annotation)))}
    return tuple(name for name, _ in fields if name in _names(kind) or name in within)


def _kinds(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401
    """The kinds of record that a field may hold by its annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)
