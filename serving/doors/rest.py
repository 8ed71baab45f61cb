"""The REST door: Open Inference Protocol v2 as a bare ASGI application, and the server that opens it."""

import asyncio
import contextlib
import math
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from importlib.metadata import version as installed_version
from random import getrandbits
from typing import Any, NamedTuple

import orjson
import uvicorn

from registry.errors import BurnishError, InputError, ModelNotFound, TransientError
from serving.engine.oip import decode_inputs, encode_answer, encode_model, parse_request, wanted_outputs
from serving.engine.worker import Worker

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

RETRY_AFTER = (b"retry-after", b"1")

_JSON = (b"content-type", b"application/json")
_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class _Reply(NamedTuple):
    status: int
    body: bytes
    headers: Headers


class _Refused(Exception):
    """A request that HTTP itself settles: no such path, wrong method, too large."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = list(headers)


class _RequestHeaders(NamedTuple):
    request_id: str
    unit_id: str
    length: int


class RestDoor:
    """The ASGI application over one worker."""

    def __init__(self, worker: Worker, max_body_bytes: int) -> None:
        """Take the worker that answers and the largest body to read."""
        self._worker = worker
        self._max_body_bytes = max_body_bytes
        self._server = orjson.dumps({"name": "burnish", "version": installed_version("burnish"), "extensions": []})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        identified: Headers = []
        try:
            headers = _read_headers(scope["headers"])
            identified = [(b"x-request-id", headers.request_id.encode())]
            reply = await self._answer(scope, headers, receive)
        except _Refused as refused:
            reply = _Reply(refused.status, _error(refused), refused.headers)
        except BurnishError as error:
            status = _status(error)
            reply = _Reply(status, _error(error), [RETRY_AFTER] if status == 503 else [])
        length = (b"content-length", b"%d" % len(reply.body))
        head = [_JSON, length, *identified, *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": head})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, scope: Scope, headers: _RequestHeaders, receive: Receive) -> _Reply:
        path: str = scope["path"]
        match path.split("/")[1:]:
            case ["v2", "models", model, "infer"]:
                _allow(scope, "POST")
                return await self._infer(model, None, headers, receive)
            case ["v2", "models", model, "versions", version, "infer"]:
                _allow(scope, "POST")
                return await self._infer(model, _version(version), headers, receive)
            case ["v2", "models", model, *rest]:
                _allow(scope, "GET")
                return self._describe(model, rest, path)
        _allow(scope, "GET")
        return self._server_state(path)

    async def _infer(self, model: str, version: int | None, headers: _RequestHeaders, receive: Receive) -> _Reply:
        body = await self._read_body(headers.length, receive)
        request = parse_request(body)
        slot = self._worker.engine.route(model, version, headers.unit_id)
        inputs = decode_inputs(request, slot.plan)
        wanted = wanted_outputs(request, slot.plan)
        answer = await self._worker.engine.infer(slot, headers.request_id, inputs, receive)
        made_by = [
            (b"x-burnish-model", model.encode()),
            (b"x-burnish-version", b"%d" % slot.served.version),
            (b"x-burnish-artifact", slot.served.artifact.sha256.encode()),
        ]
        return _Reply(200, encode_answer(answer, wanted, request.id), made_by)

    def _describe(self, model: str, rest: list[str], path: str) -> _Reply:
        live = self._worker.live.model(model)
        match rest:
            case ["ready"]:
                number = live.champion
            case []:
                number = live.champion or max(live.slots, default=None)
            case ["versions", version] | ["versions", version, "ready"]:
                number = _version(version)
            case _:
                raise _Refused(404, f"there is nothing at {path}")
        if number not in live.slots:
            missing = "no live version" if number is None else f"no version {number}"
            raise ModelNotFound(f"{model} has {missing}; there are {sorted(live.slots)}")
        if rest[-1:] == ["ready"]:
            ready = live.slots[number].failure is None
            return _reply({"name": model, "ready": ready}, 200 if ready else 503)
        return _Reply(200, encode_model(live, number), [])

    def _server_state(self, path: str) -> _Reply:
        match path:
            case "/v2":
                return _Reply(200, self._server, [])
            case "/v2/health/live":
                return _reply({"live": True}, 200)
            case "/v2/health/ready":
                ready = self._worker.ready
                return _reply({"ready": ready}, 200 if ready else 503)
            case "/burnish/catalog":
                return _reply(self._worker.status(), 200)
        raise _Refused(404, f"there is nothing at {path}")

    async def _read_body(self, length: int, receive: Receive) -> bytes:
        if length > self._max_body_bytes:
            raise self._too_large()
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= self._max_body_bytes:
            return body
        chunks, size = [body], len(body)
        while size <= self._max_body_bytes:
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()
            if message["type"] == "http.disconnect":
                raise TransientError("the client went away before its request was read")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        raise self._too_large()

    def _too_large(self) -> _Refused:
        return _Refused(413, f"the body is larger than {self._max_body_bytes} bytes", (b"connection", b"close"))


class DoorServer:
    """A uvicorn server on the running loop that leaves signals to the process that hosts it."""

    def __init__(self, door: RestDoor, drain_seconds: float) -> None:
        """Take the application and how long a closing server waits for requests in flight."""
        config = uvicorn.Config(
            door,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(drain_seconds),
        )
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port: the one asked for, or with 0 a free one.

        Raises:
            OSError: the port is taken.
        """
        listener = socket.create_server((host, port), backlog=2048)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        bound: int = listener.getsockname()[1]
        return bound

    async def close(self) -> None:
        """Take no more connections and return when what is in flight is answered, or the time for it is over."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def new_request_id() -> str:
    """Return a new random request id, 32 hex digits."""
    return f"{getrandbits(128):032x}"


def _read_headers(raw: Headers) -> _RequestHeaders:
    request_id = unit_id = None
    length = 0
    for name, value in raw:
        if name == b"x-request-id":
            request_id = _checked_id(name, value)
        elif name == b"x-burnish-unit":
            unit_id = _checked_id(name, value)
        elif name == b"content-length":
            if not value.isdigit():
                raise InputError("the header content-length: expected a number of bytes")
            length = int(value)
    request_id = request_id or new_request_id()
    return _RequestHeaders(request_id, unit_id or request_id, length)


def _checked_id(name: bytes, value: bytes) -> str:
    if not _ID.fullmatch(value):
        raise InputError(f"the header {name.decode()}: expected 1 to 128 printable ASCII characters without spaces")
    return value.decode()


def _allow(scope: Scope, method: str) -> None:
    if scope["method"] != method:
        raise _Refused(405, f"{scope['path']} takes {method} only", (b"allow", method.encode()))


def _version(text: str) -> int:
    if not _VERSION.fullmatch(text):
        raise InputError(f"the version in the path: expected a whole number such as 1, got {text!r:.40}")
    return int(text)


def _status(error: BurnishError) -> int:
    if isinstance(error, InputError):
        return 400
    if isinstance(error, ModelNotFound):
        return 404
    return 503 if isinstance(error, TransientError) else 500


def _error(error: Exception) -> bytes:
    return orjson.dumps({"error": str(error)})


def _reply(value: object, status: int) -> _Reply:
    return _Reply(status, orjson.dumps(value), [])
