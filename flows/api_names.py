"""Names at the edge: answers call a tenant's models as the tenant does, never by their qualified names."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

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


def short_text(text: str, names: Iterable[str]) -> str:
    """Return a message in which qualified names stand as their tenant writes them."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, split_name(name)[1])
    return text


class ShortNamesRoute(APIRoute):
    """A route whose answers, as far as they are records, have short names."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        """Shorten what the handler returns."""
        super().__init__(path, _short_answers(endpoint), **options)


def _short_answers(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(endpoint):

        @functools.wraps(endpoint)
        async def answer_later(*args: Any, **named: Any) -> Any:  # noqa: ANN401
            return shortened(await endpoint(*args, **named))

        return answer_later

    @functools.wraps(endpoint)
    def answer(*args: Any, **named: Any) -> Any:  # noqa: ANN401
        return shortened(endpoint(*args, **named))

    return answer


def _record(record: BaseModel) -> BaseModel:
    changed: dict[str, Any] = {}
    for field in type(record).model_fields:
        value = getattr(record, field)
        named = isinstance(value, str) and field in _names(type(record))
        short = split_name(value)[1] if named else shortened(value)
        if short is not value:
            changed[field] = short
    return record.model_copy(update=changed) if changed else record


@functools.cache
def _names(kind: type[BaseModel]) -> frozenset[str]:
    """The fields of a record that are declared qualified names."""
    return frozenset(name for name, field in kind.model_fields.items() if QUALIFIED in field.metadata)
