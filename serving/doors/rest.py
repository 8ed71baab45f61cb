"""The REST door: Open Inference Protocol v2 over HTTP."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from registry.errors import BurnishError
from serving.doors import compression
from serving.doors.http import http_server
from serving.doors.http_messages import Eventual, Reply, Request
from serving.doors.http_rules import HttpLimits
from serving.doors.inferences import Inference, InferenceCall, Inferences
from serving.doors.requests import parse_version
from serving.doors.rest_headers import JSON_LENGTH, TRACEPARENT, RequestHeaders, read_headers, unread
from serving.doors.rest_refusals import JSON, Refused, failure, refuse
from serving.doors.rest_state import RestState, allow
from serving.doors.rest_traces import RestTraces
from serving.doors.server import Server
from serving.doors.traced import Traced
from serving.engine.infer import Answer, Asked
from serving.engine.oip import decode_inputs, encode_answer, parse_request, wanted_outputs
from serving.engine.slot import Slot
from serving.engine.tensors import WantedOutput
from serving.engine.urgency import ROUTINE, Urgency
from serving.engine.worker import Worker

_DOOR = "rest"
_BINARY = (b"content-type", b"application/octet-stream")


@dataclass(slots=True, eq=False)
class _Call(InferenceCall[Reply]):
    door: "RestDoor"
    model: str
    version: int | None
    about: RequestHeaders
    body: bytes

    def begin(self) -> "Reply | _Inference":
        about, slot = self.about, None
        try:
            request = parse_request(self.body, about.json_length)
            slot = self.door.worker.engine.route(self.model, self.version, about.unit_id, about.tenant)
            if about.retried:
                self.door.worker.guard.check_retried(slot.served)
            inputs = decode_inputs(request, slot.plan, finite=slot.finite_only)
            urgency = Urgency.of(request.parameters) if request.parameters else ROUTINE
            wanted = wanted_outputs(request, slot.plan)
        except BurnishError as error:
            return self.door.failed(error, about, slot)
        asked = Asked(slot, about.request_id, inputs)
        return _Inference(asked, urgency, self.door, request.id, about, wanted, len(self.body))

    def refused(self, error: BurnishError) -> Reply:
        return self.door.failed(error, self.about)


@dataclass(slots=True, eq=False)
class _Inference(Inference[Reply]):
    door: "RestDoor"
    given_id: str | None
    about: RequestHeaders
    wanted: tuple[WantedOutput, ...]
    received: int

    def reply(self, answer: Answer) -> Reply:
        about, slot = self.about, self.asked.slot
        lineage = slot.lineage if about.tenant is None else slot.own_lineage
        body, json_length = encode_answer(answer, lineage, self.wanted, self.given_id)
        headers = [about.id_header, JSON]
        if json_length is not None:
            headers[1:] = _BINARY, (JSON_LENGTH, b"%d" % json_length)
        if about.parent is not None:
            headers.append((TRACEPARENT, about.parent.traceparent.encode()))
        slot.statistics.account.moved(self.received, len(body))
        return Reply(200, body, headers, lineage.header_lines)

    def failed(self, error: BurnishError) -> Reply:
        return self.door.failed(error, self.about, self.asked.slot)


class RestDoor:
    """The HTTP application over one worker."""

    def __init__(self, worker: Worker, max_body_bytes: int) -> None:
        """Take the worker that answers, and how large a body may be once it is decompressed."""
        self.worker = worker
        self._inferences = Inferences(worker)
        self._state = RestState(worker, self.failed)
        self._max_body_bytes = max_body_bytes

    def __call__(self, requests: Sequence[Request]) -> list[Eventual]:
        """Answer requests that came together: at once where they need not wait, else later.

        What is alike is done side by side: see ``round``.
        """
        read = [self._read(request) for request in requests]
        answers = iter(self._inferences.answer([one for one in read if isinstance(one, _Call)]))
        return [_packed(one.about, next(answers)) if isinstance(one, _Call) else one for one in read]

    def _read(self, request: Request) -> Eventual | _Call:
        """Read the head of a request, and answer it if it asks for no inference."""
        headers = None
        try:
            headers = read_headers(request.headers)
            if headers.coding is not None:
                return self._decompressed(request, headers)
            match request.path.split("/")[1:]:
                case ["v2", "models", model, "infer"]:
                    version = None
                case ["v2", "models", model, "versions", given, "infer"]:
                    version = parse_version(given)
                case _:
                    return self._state(request, headers)
            allow(request, "POST")
            return _Call(headers.tenant, len(request.body), self, model, version, headers, request.body)
        except (Refused, BurnishError) as error:
            return self.failed(error, headers or unread(request.headers))

    async def _decompressed(self, request: Request, headers: RequestHeaders) -> Reply:
        """Answer a request whose body is compressed; it is read in a thread, for it may be long."""
        coding = headers.coding or ""
        try:
            if not compression.is_known(coding):
                raise Refused(415, f"the header content-encoding: unknown coding {coding!r:.40}", compression.ACCEPTED)
            body = await compression.decompressed(
                request.body, coding, self._max_body_bytes, self.worker.backlog, headers.tenant
            )
            if len(body) > self._max_body_bytes:
                raise Refused(413, f"the body is larger than {self._max_body_bytes} bytes once it is decompressed")
        except (Refused, BurnishError) as error:
            return self.failed(error, headers)
        plain = [header for header in request.headers if header[0] != b"content-encoding"]
        (answer,) = self([request._replace(headers=plain, body=body)])
        return answer if isinstance(answer, Reply) else await answer

    def refuse(self, status: int, message: str) -> Reply:
        """Answer what HTTP cannot read as a request."""
        self.worker.failures.add(_DOOR, str(status), message, own_fault=False)
        return refuse(status, message)

    def failed(self, error: Refused | BurnishError, headers: RequestHeaders, slot: Slot | None = None) -> Reply:
        """Answer a request that fails, with what was to make its answer, and count and log it."""
        reply = failure(error, headers)
        if slot is not None:
            reply = reply._replace(lines=slot.lineage_for(headers.tenant).header_lines)
        self.worker.failures.add(
            _DOOR,
            str(reply.status),
            str(error),
            own_fault=reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR,
            request_id=headers.request_id,
            trace_id=headers.parent.trace_id if headers.parent is not None else None,
        )
        return reply


def rest_server(worker: Worker, max_body_bytes: int, drain_seconds: float) -> Server:
    """Return a server, not opened yet, with the REST door of a worker behind it."""
    door = RestDoor(worker, max_body_bytes)
    application = door if worker.tracing is None else Traced(door, RestTraces(worker.tracing))
    return http_server(application, door.refuse, HttpLimits(max_body_bytes), drain_seconds, worker.bodies)


def _packed(about: RequestHeaders, answer: Eventual) -> Eventual:
    """Compress an answer that is worth it, where the client takes that."""
    accepted = about.accepted
    if accepted is None or (isinstance(answer, Reply) and len(answer.body) < compression.SMALLEST_BYTES):
        return answer
    return _compressed(answer, accepted)


async def _compressed(answer: Eventual, accepted: str) -> Reply:
    """Compress tensors where the client takes it. Nothing else is: Triton's asynchronous client could not read it."""
    reply = answer if isinstance(answer, Reply) else await answer
    coding = compression.choose(accepted)
    if coding is None or reply.status != 200 or len(reply.body) < compression.SMALLEST_BYTES:
        return reply
    body = await asyncio.to_thread(compression.compress, reply.body, coding)
    headers = [*reply.headers, (b"content-encoding", coding.encode()), (b"vary", b"accept-encoding")]
    return reply._replace(body=body, headers=headers)
