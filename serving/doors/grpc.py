"""The gRPC door: Open Inference Protocol v2, the repository and statistics extensions, and ``grpc.health.v1``.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_grpc.md.
"""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from registry.errors import BurnishError, InputError, QueueFull
from serving.doors import compression, oip_grpc
from serving.doors.grpc_call import Answered, Asked
from serving.doors.grpc_metadata import CallMetadata, code_of, pushback
from serving.doors.grpc_state import GrpcState
from serving.doors.grpc_wire import OK, Code, Status, parsed
from serving.doors.inferences import Inference, InferenceCall, Inferences
from serving.doors.protocol import open_inference_pb2 as pb
from serving.doors.requests import parse_version
from serving.engine.infer import Answer
from serving.engine.infer import Asked as Wanted
from serving.engine.slot import Slot
from serving.engine.tensors import TensorPlan
from serving.engine.urgency import ROUTINE, Urgency
from serving.engine.worker import Worker

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"
_DOOR = "grpc"
_FINAL_RESPONSE = "triton_final_response"
"""Tells Triton's clients that a request of a stream gets no further answer."""

Eventual = Answered | Coroutine[Any, Any, Answered]


@dataclass(slots=True, eq=False)
class _Call(InferenceCall[Answered]):
    door: "GrpcDoor"
    given: Asked

    def begin(self) -> "Answered | _Inference":
        worker, about, slot, request = self.door.worker, self.given.about, None, None
        try:
            about.check()
            request = parsed(pb.ModelInferRequest, self.given.body)
            version = parse_version(request.model_version) if request.model_version else None
            slot = worker.engine.route(request.model_name, version, about.unit_id, about.tenant)
            if about.retried:
                worker.guard.check_retried(slot.served)
            inputs = oip_grpc.decode_inputs(request, slot.plan, finite=slot.finite_only)
            wanted = oip_grpc.wanted_outputs(request, slot.plan)
            urgency = Urgency.of(oip_grpc.parameters(request)) if request.parameters else ROUTINE
        except BurnishError as error:
            named = (request.model_name, request.id) if request is not None else ("", "")
            return self.door.failed_inference(self.given, error, slot, *named)
        if self.given.deadline != math.inf:
            urgency = urgency.within(self.given.deadline - asyncio.get_running_loop().time())
        asked = Wanted(slot, about.request_id, inputs)
        return _Inference(asked, urgency, self.door, self.given._replace(body=b""), request.id, wanted)

    def refused(self, error: BurnishError) -> Answered:
        return self.door.failed_inference(self.given, error)


@dataclass(slots=True, eq=False)
class _Inference(Inference[Answered]):
    door: "GrpcDoor"
    given: Asked
    given_id: str
    wanted: tuple[TensorPlan, ...]

    def reply(self, answer: Answer) -> Answered:
        about, slot = self.given.about, self.asked.slot
        response = oip_grpc.encode_answer(answer, slot.lineage_for(about.tenant), self.wanted, self.given_id)
        if self.given.streamed:
            response.parameters[_FINAL_RESPONSE].bool_param = True
            response = pb.ModelStreamInferResponse(infer_response=response)
        content = response.SerializeToString()
        slot.statistics.account.moved(about.size, len(content))
        return Answered(about, _success(about), content)

    def failed(self, error: BurnishError) -> Answered:
        return self.door.failed_inference(self.given, error, self.asked.slot, "", self.given_id)


class GrpcDoor:
    """The gRPC application over one worker."""

    def __init__(self, worker: Worker, max_body_bytes: int) -> None:
        """Take the worker that answers, and the largest message to read."""
        self.worker = worker
        self.max_body_bytes = max_body_bytes
        self._inferences = Inferences(worker)
        self._state = GrpcState(worker, SERVICE).calls()
        self.methods = frozenset({INFER, *self._state})
        """Those of one message and one answer."""

    def __call__(self, calls: Sequence[Asked]) -> list[Eventual]:
        """Answer calls, and messages of streams, that came together: at once where they need not wait, else later."""
        read = [self._read(asked) for asked in calls]
        answers = iter(self._inferences.answer([one for one in read if isinstance(one, _Call)]))
        return [next(answers) if isinstance(one, _Call) else one for one in read]

    def _read(self, asked: Asked) -> Eventual | _Call:
        if asked.missing:
            return self.failed(asked.about, InputError("the message: expected one, whole, got none or more"))
        if asked.compressed is not None:
            return self._decompressed(asked, asked.compressed)
        if asked.method in self._state:
            return self._told(asked)
        return _Call(asked.about.tenant, asked.about.size, self, asked)

    async def _decompressed(self, asked: Asked, coding: str) -> Answered:
        """Answer a message that is compressed; it is read in a thread, for it may be long."""
        try:
            if not compression.is_known(coding):
                raise InputError("the message: is marked as compressed, but grpc-encoding does not say how")
            body = await compression.decompressed(
                asked.body, coding, self.max_body_bytes, self.worker.backlog, asked.about.tenant
            )
            if len(body) > self.max_body_bytes:
                larger = f"the message is larger than max once it is decompressed: over {self.max_body_bytes} bytes"
                raise QueueFull(larger, retry_after_s=0)
        except BurnishError as error:
            return self.failed_inference(asked, error)
        about = asked.about._replace(size=len(body))
        (answer,) = self([asked._replace(about=about, body=body, compressed=None)])
        return answer if isinstance(answer, Answered) else await answer

    async def _told(self, asked: Asked) -> Answered:
        """Answer a call that is no inference."""
        about, (kind, tell) = asked.about, self._state[asked.method]
        try:
            response = await tell(parsed(kind, asked.body), about)
        except BurnishError as error:
            return self.failed(about, error)
        return Answered(about, _success(about), response.SerializeToString())

    def failed(self, about: CallMetadata, error: BurnishError, slot: Slot | None = None) -> Answered:
        """Answer a call that fails, with what was to make its answer, and count and log it."""
        status = self.refuse(about, error)
        if slot is not None:
            status = status._replace(metadata=(*slot.lineage_for(about.tenant).metadata, *status.metadata))
        return Answered(about, status)

    def failed_inference(
        self, asked: Asked, error: BurnishError, slot: Slot | None = None, model: str = "", given_id: str = ""
    ) -> Answered:
        """Answer an inference that fails: in a stream by a message, which names what it answers."""
        answer = self.failed(asked.about, error, slot)
        if not asked.streamed:
            return answer
        failed = pb.ModelInferResponse(model_name=model, id=given_id)
        if slot is not None:
            lineage = slot.lineage_for(asked.about.tenant)
            failed.model_name, failed.model_version = lineage.model, lineage.version
            failed.parameters["artifact"].string_param = lineage.artifact
        failed.parameters["request_id"].string_param = asked.about.request_id
        message = pb.ModelStreamInferResponse(error_message=str(error), infer_response=failed)
        return answer._replace(body=message.SerializeToString())

    def refuse(self, about: CallMetadata, why: BurnishError | Status) -> Status:
        """Count and log a call that fails; say how it ends."""
        code, message, metadata = why if isinstance(why, Status) else (code_of(why), str(why), pushback(why))
        self.worker.failures.add(
            _DOOR,
            code.name,
            message,
            own_fault=code.own_fault,
            request_id=about.request_id,
            trace_id=about.parent.trace_id if about.parent is not None else None,
        )
        return Status(code, message, (*metadata, *about.trailing(with_id=True)))


def _success(about: CallMetadata) -> Status:
    if about.parent is None and not about.given:
        return OK
    return Status(Code.OK, "", about.trailing(with_id=about.given))
