"""The REST door: Open Inference Protocol v2 over HTTP."""

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus
from importlib.metadata import version as installed_version
from typing import Any, NamedTuple

import orjson

from registry.errors import BurnishError
from serving.doors import compression, openapi
from serving.doors.http import HttpLimits, Reply, Request
from serving.doors.requests import parse_version
from serving.doors.rest_headers import JSON_LENGTH, TRACEPARENT, RequestHeaders, read_headers
from serving.doors.rest_refusals import JSON, Refused, failure, refuse
from serving.doors.server import HttpServer
from serving.doors.traced_rest import TracedRest
from serving.engine.exposition import CONTENT_TYPE
from serving.engine.infer import Answer
from serving.engine.metrics import Metrics
from serving.engine.oip import (
    decode_inputs,
    encode_answer,
    encode_model,
    parse_request,
    wanted_outputs,
)
from serving.engine.oip_repository import check_load, check_unload, encode_index, encode_statistics, parse_index
from serving.engine.slices import json_object
from serving.engine.slot import Slot
from serving.engine.tensors import WantedOutput
from serving.engine.urgency import ROUTINE, Urgency
from serving.engine.worker import Worker
from serving.runtime import Arrays

EXTENSIONS = ("binary_tensor_data", "model_repository", "openapi", "schedule_policy", "statistics")

_DOOR = "rest"
_BINARY = (b"content-type", b"application/octet-stream")


class _Inference(NamedTuple):
    """One inference whose request is right; what was parsed of it is not kept while it waits."""

    slot: Slot
    given_id: str | None
    about: RequestHeaders
    inputs: Arrays
    wanted: tuple[WantedOutput, ...]
    urgency: Urgency

    def reply(self, answer: Answer) -> Reply:
        body, json_length = encode_answer(answer, self.wanted, self.given_id)
        headers = [self.about.id_header, JSON]
        if json_length is not None:
            headers[1:] = _BINARY, (JSON_LENGTH, b"%d" % json_length)
        if self.about.parent is not None:
            headers.append((TRACEPARENT, self.about.parent.traceparent.encode()))
        return Reply(200, body, headers, self.slot.lineage.header_lines)


class RestDoor:
    """The HTTP application over one worker."""

    def __init__(self, worker: Worker, max_body_bytes: int) -> None:
        """Take the worker that answers, and how large a body may be once it is decompressed."""
        self._worker = worker
        self._metrics = Metrics(worker)
        self._max_body_bytes = max_body_bytes
        version = installed_version("burnish")
        self._documents = {
            "/v2": orjson.dumps({"name": "burnish", "version": version, "extensions": list(EXTENSIONS)}),
            "/v2/openapi.json": orjson.dumps(openapi.document(version)),
        }

    def __call__(self, request: Request) -> Reply | Coroutine[Any, Any, Reply]:
        """Answer one request: at once where it need not wait, else later."""
        headers = None
        try:
            headers = read_headers(request.headers)
            if headers.coding is not None:
                return self._decompressed(request, headers)
            match request.path.split("/")[1:]:
                case ["v2", "models", model, "infer"]:
                    answer = self._infer(model, None, headers, request)
                case ["v2", "models", model, "versions", version, "infer"]:
                    answer = self._infer(model, parse_version(version), headers, request)
                case _:
                    return self._describe(request, headers)
        except (Refused, BurnishError) as error:
            return self._failed(error, headers)
        if headers.accepted is None or (isinstance(answer, Reply) and len(answer.body) < compression.SMALLEST_BYTES):
            return answer
        return _compressed(answer, headers.accepted)

    async def _decompressed(self, request: Request, headers: RequestHeaders) -> Reply:
        """Answer a request whose body is compressed; it is read in a thread, for it may be long."""
        coding = headers.coding or ""
        try:
            if not compression.is_known(coding):
                raise Refused(415, f"the header content-encoding: unknown coding {coding!r:.40}", compression.ACCEPTED)
            body = await asyncio.to_thread(compression.decompress, request.body, coding, self._max_body_bytes)
            if len(body) > self._max_body_bytes:
                raise Refused(413, f"the body is larger than {self._max_body_bytes} bytes once it is decompressed")
        except (Refused, BurnishError) as error:
            return self._failed(error, headers)
        plain = [header for header in request.headers if header[0] != b"content-encoding"]
        answer = self(request._replace(headers=plain, body=body))
        return answer if isinstance(answer, Reply) else await answer

    def _infer(
        self, model: str, version: int | None, headers: RequestHeaders, http: Request
    ) -> Reply | Coroutine[Any, Any, Reply]:
        _allow(http, "POST")
        request = parse_request(http.body, headers.json_length)
        slot = self._worker.engine.route(model, version, headers.unit_id)
        if headers.retried:
            self._worker.guard.check_retried(slot.served)
        inputs = decode_inputs(request, slot.plan, finite=slot.finite_only)
        urgency = Urgency.of(request.parameters) if request.parameters else ROUTINE
        inference = _Inference(slot, request.id, headers, inputs, wanted_outputs(request, slot.plan), urgency)
        answer = self._worker.engine.infer_now(slot, headers.request_id, inputs)
        return self._infer_later(inference) if answer is None else inference.reply(answer)

    async def _infer_later(self, inference: _Inference) -> Reply:
        try:
            answer = await self._worker.engine.infer(
                inference.slot, inference.about.request_id, inference.inputs, inference.urgency
            )
            return inference.reply(answer)
        except BurnishError as error:
            return self._failed(error, inference.about)

    def _describe(self, http: Request, headers: RequestHeaders) -> Reply | Coroutine[Any, Any, Reply]:
        if http.path in self._documents:
            _allow(http, "GET")
            return Reply(200, self._documents[http.path], [JSON, headers.id_header])
        match http.path.split("/")[1:]:
            case ["v2", "health", "live"]:
                _allow(http, "GET")
                return _reply(200, {"live": True}, headers)
            case ["v2", "health", "ready"]:
                _allow(http, "GET")
                ready = self._worker.ready
                return _reply(200 if ready else 503, {"ready": ready}, headers)
            case ["v2", "models", *rest] if rest:
                _allow(http, "GET")
                return self._model_state(rest, headers, http.path)
            case ["v2", "repository", *rest]:
                _allow(http, "POST")
                return self._repository(rest, http, headers)
            case ["burnish", *rest]:
                _allow(http, "GET")
                return self._worker_state(rest, headers, http.path)
            case ["metrics"]:
                _allow(http, "GET")
                return self._tell_metrics(headers)
        raise Refused(404, f"there is nothing at {http.path}")

    def _worker_state(self, rest: list[str], headers: RequestHeaders, path: str) -> Reply | Coroutine[Any, Any, Reply]:
        match rest:
            case ["catalog"]:
                return self._listed(self._catalog(), headers)
            case ["catalog", model]:
                return _reply(200, self._worker.model_status(model), headers)
            case ["resident"]:
                return _reply(200, self._worker.resident(), headers)
        raise Refused(404, f"there is nothing at {path}")

    async def _catalog(self) -> bytes:
        models = await json_object(self._worker.model_statuses())
        return orjson.dumps({**self._worker.status(), "models": orjson.Fragment(models)})

    async def _listed(self, body: Coroutine[Any, Any, bytes], headers: RequestHeaders) -> Reply:
        """Answer with a list that is made a slice at a time."""
        try:
            return Reply(200, await body, [JSON, headers.id_header])
        except BurnishError as error:
            return self._failed(error, headers)

    async def _tell_metrics(self, headers: RequestHeaders) -> Reply:
        return Reply(200, await self._metrics.render(), [(b"content-type", CONTENT_TYPE), headers.id_header])

    def _model_state(self, rest: list[str], headers: RequestHeaders, path: str) -> Reply | Coroutine[Any, Any, Reply]:
        repository = self._worker.repository
        match rest:
            case ["stats"]:
                return self._listed(encode_statistics(repository.statistics(None, None)), headers)
            case [model, *what]:
                version = None
            case _:
                raise Refused(404, f"there is nothing at {path}")
        if what[:1] == ["versions"] and len(what) > 1:
            version, what = parse_version(what[1]), what[2:]
        if what == ["ready"]:
            ready = repository.ready(model, version)
            return _reply(200 if ready else 503, {"name": model, "ready": ready}, headers)
        if what == ["stats"]:
            return self._listed(encode_statistics(repository.statistics(model, version)), headers)
        if what == []:
            return Reply(200, encode_model(*repository.version(model, version)), [JSON, headers.id_header])
        raise Refused(404, f"there is nothing at {path}")

    def _repository(
        self, rest: list[str], http: Request, headers: RequestHeaders
    ) -> Reply | Coroutine[Any, Any, Reply]:
        repository = self._worker.repository
        match rest:
            case ["index"]:
                return self._listed(encode_index(repository.index(ready=parse_index(http.body))), headers)
            case ["models", model, "load"]:
                check_load(http.body)
                return self._load(model, headers)
            case ["models", model, "unload"]:
                check_unload(http.body)
                repository.unload(model)
                return _reply(200, {}, headers)
        raise Refused(404, f"there is nothing at {http.path}")

    async def _load(self, model: str, headers: RequestHeaders) -> Reply:
        try:
            await self._worker.repository.load(model)
        except BurnishError as error:
            return self._failed(error, headers)
        return _reply(200, {}, headers)

    def refuse(self, status: int, message: str) -> Reply:
        """Answer what HTTP cannot read as a request."""
        self._worker.failures.add(_DOOR, str(status), message, own_fault=False)
        return refuse(status, message)

    def _failed(self, error: Refused | BurnishError, headers: RequestHeaders | None) -> Reply:
        reply = failure(error, headers)
        self._worker.failures.add(
            _DOOR,
            str(reply.status),
            str(error),
            own_fault=reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            request_id=headers.request_id if headers is not None else None,
            trace_id=headers.parent.trace_id if headers is not None and headers.parent is not None else None,
        )
        return reply


def rest_server(worker: Worker, max_body_bytes: int, drain_seconds: float) -> HttpServer:
    """Return a server, not opened yet, with the REST door of a worker behind it."""
    door = RestDoor(worker, max_body_bytes)
    application = door if worker.tracing is None else TracedRest(door, worker.tracing)
    return HttpServer(application, door.refuse, HttpLimits(max_body_bytes), drain_seconds)


async def _compressed(answer: Reply | Coroutine[Any, Any, Reply], accepted: str) -> Reply:
    """Compress tensors where the client takes it. Nothing else is: Triton's asynchronous client could not read it."""
    reply = answer if isinstance(answer, Reply) else await answer
    coding = compression.choose(accepted)
    if coding is None or reply.status != 200 or len(reply.body) < compression.SMALLEST_BYTES:
        return reply
    body = await asyncio.to_thread(compression.compress, reply.body, coding)
    headers = [*reply.headers, (b"content-encoding", coding.encode()), (b"vary", b"accept-encoding")]
    return reply._replace(body=body, headers=headers)


def _allow(request: Request, method: str) -> None:
    if request.method != method:
        raise Refused(405, f"{request.path} takes {method} only", (b"allow", method.encode()))


def _reply(status: int, value: object, headers: RequestHeaders) -> Reply:
    return Reply(status, orjson.dumps(value), [JSON, headers.id_header])
