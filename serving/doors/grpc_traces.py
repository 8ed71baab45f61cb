"""How inferences over gRPC are followed."""

from serving.doors.grpc_call import Answered, Asked
from serving.doors.grpc_metadata import followed
from serving.doors.grpc_wire import Code
from serving.engine.trace_context import Trace
from serving.engine.tracing import Tracing


class GrpcTraces:
    """Reads the trace of a call in its metadata, and gives it back with the status."""

    def __init__(self, tracing: Tracing, inference: str) -> None:
        """Take what makes spans, and the method that is followed."""
        self._tracing = tracing
        self._inference = inference

    def begin(self, asked: Asked) -> Trace | None:
        """Return what an inference is followed by; None if it is not sampled, or no inference."""
        if asked.method != self._inference and not asked.streamed:
            return None
        return self._tracing.begin(asked.about.parent)

    def end(self, trace: Trace, answered: Answered) -> Answered:
        """Make the span of an answer; return it with the span's id."""
        status = answered.status
        failed = status.code.own_fault
        traceparent = self._tracing.end(trace, answered.about.request_id, status.code.name, failed=failed)
        if traceparent is None:
            return answered
        return answered._replace(status=status._replace(metadata=followed(status.metadata, traceparent)))

    def gone(self, trace: Trace) -> None:
        """Make the span of a call that was cancelled."""
        self._tracing.end(trace, None, Code.CANCELLED.name, failed=False)
