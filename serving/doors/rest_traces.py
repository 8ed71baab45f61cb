"""How inferences over REST are followed."""

from http import HTTPStatus

from serving.doors.http_messages import Reply, Request
from serving.doors.rest_headers import TRACEPARENT
from serving.engine.trace_context import Trace, read_parent
from serving.engine.tracing import Tracing

_CLIENT_GONE = "499"


class RestTraces:
    """Reads the trace of a request in its headers, and gives it back in those of the answer."""

    def __init__(self, tracing: Tracing) -> None:
        """Take what makes spans."""
        self._tracing = tracing

    def begin(self, request: Request) -> Trace | None:
        """Return what an inference is followed by; None if it is not sampled, or no inference."""
        if not request.path.endswith("/infer"):
            return None
        traceparent, states = None, []
        for name, value in request.headers:
            if name == TRACEPARENT:
                traceparent = value.decode("latin-1")
            elif name == b"tracestate":
                states.append(value.decode("latin-1"))
        return self._tracing.begin(None if traceparent is None else read_parent(traceparent, ",".join(states)))

    def end(self, trace: Trace, reply: Reply) -> Reply:
        """Make the span of an answer; return it with the span's id."""
        own_fault = reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        traceparent = self._tracing.end(trace, _request_id(reply), str(reply.status), failed=own_fault)
        if traceparent is None:
            return reply
        headers = [header for header in reply.headers if header[0] != TRACEPARENT]
        return reply._replace(headers=[*headers, (TRACEPARENT, traceparent.encode())])

    def gone(self, trace: Trace) -> None:
        """Make the span of a request whose client hung up."""
        self._tracing.end(trace, None, _CLIENT_GONE, failed=False)


def _request_id(reply: Reply) -> str | None:
    return next((value.decode() for name, value in reply.headers if name == b"x-request-id"), None)
