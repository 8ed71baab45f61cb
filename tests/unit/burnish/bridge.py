"""Answers the client's HTTP calls in the process: no socket is opened."""

from collections.abc import Callable

import httpx
import pytest
from fastapi.testclient import TestClient

CONTROL = "http://control.test"
GATEWAY = "http://gateway.test"
Handler = Callable[[httpx.Request], httpx.Response]


def answer_with(monkeypatch: pytest.MonkeyPatch, handler: Handler) -> None:
    """Hand every request of every httpx client to a function."""
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: _answer(handler, request))


def to_app(api: TestClient) -> Handler:
    """Hand requests to an application."""

    def handler(request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode()
        answer = api.request(request.method, target, headers=dict(request.headers), content=request.content)
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)

    return handler


def by_host(handlers: dict[str, Handler]) -> Handler:
    """Hand requests to the handler of their base URL; other addresses refuse the connection."""

    def handler(request: httpx.Request) -> httpx.Response:
        base = f"{request.url.scheme}://{request.url.host}"
        if base not in handlers:
            raise httpx.ConnectError("connection refused", request=request)
        return handlers[base](request)

    return handler


def _answer(handler: Handler, request: httpx.Request) -> httpx.Response:
    request.read()
    return handler(request)
