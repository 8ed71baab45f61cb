"""What the REST door answers where it has no answer: the status of each error, in the protocol's form."""

import orjson

from registry.errors import BurnishError, DeadlineExceeded, InputError, ModelNotFound, QueueFull, TransientError
from serving.doors.http_messages import Reply
from serving.doors.rest_headers import TRACEPARENT, RequestHeaders

JSON = (b"content-type", b"application/json")

_TRY_LATER = (429, 503)


class Refused(Exception):
    """A request that HTTP itself settles: no such path, wrong method."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        """Take the status, what to say, and the headers that the status asks for."""
        super().__init__(message)
        self.status = status
        self.headers = list(headers)


def refuse(status: int, message: str) -> Reply:
    """Return an error of HTTP's own in the protocol's form."""
    later = [(b"retry-after", b"1")] if status in _TRY_LATER else []
    return Reply(status, orjson.dumps({"error": message}), [JSON, *later])


def failure(error: Refused | BurnishError, headers: RequestHeaders) -> Reply:
    """Return the answer to a request that fails."""
    status = error.status if isinstance(error, Refused) else _status(error)
    reply = Reply(status, orjson.dumps({"error": str(error)}), [JSON, headers.id_header])
    if headers.parent is not None:
        reply.headers.append((TRACEPARENT, headers.parent.traceparent.encode()))
    if isinstance(error, Refused):
        reply.headers.extend(error.headers)
    if isinstance(error, TransientError):
        reply.headers.append((b"retry-after", b"%d" % error.retry_after_s))
    return reply


_STATUSES: tuple[tuple[type[BurnishError], int], ...] = (
    (InputError, 400),
    (ModelNotFound, 404),
    (QueueFull, 429),
    (DeadlineExceeded, 504),
    (TransientError, 503),
)
"""The first that fits."""


def _status(error: BurnishError) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
