"""The gRPC server of one worker: which calls there are, and what becomes of requests that are none."""

from collections.abc import AsyncGenerator, Callable
from functools import partial

from serving.doors.grpc import INFER, SERVICE, GrpcDoor
from serving.doors.grpc_call import Service, UnaryCall
from serving.doors.grpc_health import watch
from serving.doors.grpc_stream import stream_infer
from serving.doors.grpc_stream_call import StreamCall
from serving.doors.grpc_traces import GrpcTraces
from serving.doors.grpc_wire import HEAD, NOT_GRPC, Code, Head, NotGrpc, Refused, read_head
from serving.doors.http2 import Http2Connection
from serving.doors.http2_request import Http2Limits
from serving.doors.http_messages import Headers
from serving.doors.round import Round
from serving.doors.server import Connection, Server
from serving.doors.traced import Traced
from serving.engine.worker import Worker


class _Calls:
    """Takes the calls of all connections."""

    def __init__(self, door: GrpcDoor, max_calls: int) -> None:
        worker = door.worker
        application = door if worker.tracing is None else Traced(door, GrpcTraces(worker.tracing, INFER))
        self._service = Service(Round(application), door.refuse, door.max_body_bytes, worker.bodies, set())
        self._methods = door.methods
        self._max_calls = max_calls
        self._streams: dict[str, Callable[[StreamCall], AsyncGenerator[bytes, None]]] = {
            f"/{SERVICE}/ModelStreamInfer": stream_infer,
            "/grpc.health.v1.Health/Watch": partial(watch, worker, SERVICE),
        }

    def connect(self, all_: set[Connection]) -> Http2Connection:
        return Http2Connection(self._accept, Http2Limits(), all_)

    def _accept(self, connection: Http2Connection, number: int, headers: Headers) -> UnaryCall | StreamCall | None:
        """Take a call, or answer what is none."""
        try:
            head = read_head(headers)
            self._check(head)
        except NotGrpc:
            connection.refuse(number, NOT_GRPC)
            return None
        except Refused as error:
            connection.refuse(number, HEAD + error.status.trailers())
            return None
        stream = self._streams.get(head.method)
        if stream is None:
            return UnaryCall(self._service, connection, number, headers, head)
        return StreamCall(self._service, connection, number, headers, head, stream)

    def _check(self, head: Head) -> None:
        if head.method not in self._methods and head.method not in self._streams:
            raise Refused(Code.UNIMPLEMENTED, f"there is no method {head.method!r:.120}")
        if len(self._service.open_calls) >= self._max_calls:
            raise Refused(Code.RESOURCE_EXHAUSTED, f"there are {self._max_calls} calls at a time, and no more")


def grpc_server(worker: Worker, max_body_bytes: int, drain_seconds: float, max_calls: int) -> Server:
    """Return a server, not opened yet, with the gRPC door of a worker behind it."""
    return Server(_Calls(GrpcDoor(worker, max_body_bytes), max_calls).connect, drain_seconds)
