"""One gRPC call on an HTTP/2 connection: its messages are put together, it is asked for, and its answer is sent."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from registry.errors import BurnishError, QueueFull
from serving.doors.grpc_metadata import CallMetadata, read_metadata
from serving.doors.grpc_wire import HEAD, Code, Head, Message, Messages, Refused, Status, framed
from serving.doors.http2 import Http2Connection
from serving.doors.http_messages import Headers
from serving.doors.kept_bodies import KeptBodies
from serving.doors.round import Round
from serving.engine.shared_bound import SharedBound

_READ_SECONDS = 30.0
"""From a call's first byte to its last, streams apart."""


class Asked(NamedTuple):
    """What a call asks, read whole."""

    method: str
    about: CallMetadata
    body: bytes
    compressed: str | None = None
    """The coding of the body; None: it is as it is."""
    deadline: float = math.inf
    """Loop time after which nobody waits for the answer."""
    missing: bool = False
    """There was no message, or more than the one."""
    streamed: bool = False
    """It is one of several of a call, whose failure is an answer too."""


class Answered(NamedTuple):
    """What a call is answered."""

    about: CallMetadata
    status: Status
    body: bytes | None = None
    """The message; None: there is only a status."""


Refuse = Callable[[CallMetadata, BurnishError | Status], Status]
"""Counts a call that fails, and says how it ends."""

Calls = Round[Asked, Answered]


class Service(NamedTuple):
    """What calls of one server share."""

    calls: Calls
    refuse: Refuse
    limit: int
    """Bytes of the largest message."""
    bodies: SharedBound
    """The account of what is being read."""
    open_calls: set["Call"]


class Call:
    """What is alike in calls of either kind."""

    def __init__(self, service: Service, connection: Http2Connection, number: int, headers: Headers, at: Head) -> None:
        """Take what calls share, where it came from, and what it said at its beginning."""
        now = asyncio.get_running_loop().time()
        self.deadline = now + _READ_SECONDS
        self.whole = False
        self._service = service
        self._connection = connection
        self._number = number
        self._headers = headers
        self._head = at
        self._wanted_until = math.inf if at.timeout_s is None else now + at.timeout_s
        self._messages = Messages(service.limit)
        self._kept = KeptBodies(service.bodies)
        self._untaken = 0
        self._work: asyncio.Task[Any] | None = None
        service.open_calls.add(self)

    @property
    def gone(self) -> bool:
        """True if nobody waits for the answer."""
        return not self._connection.waits(self._number)

    def over(self) -> None:
        """Let go of all that belongs to it."""
        if self._kept.size:
            self._kept.count((), [])
        self._service.open_calls.discard(self)
        if self._work is not None:
            self._work.cancel()

    def abort(self) -> None:
        """There is no answer, by a fault of ours."""
        self._end(Status(Code.UNKNOWN, "the server has failed"))

    def time_out(self) -> None:
        """It did not come in time."""
        self._refuse(Status(Code.DEADLINE_EXCEEDED, f"the message did not come within {_READ_SECONDS:g} s"))

    def account(self) -> None:
        """Count what is kept of it, refuse it if that is too much, and let more come."""
        if self.gone:  # what takes messages learns of it a moment later, and what was counted now would count for ever
            return
        if self._kept.count((self._size(),), self._headers) is not None:
            self._refuse(QueueFull("too much of other requests is being read; try again shortly"))
        elif self._untaken and not self.whole and self._ready():
            self._connection.take_more(self._number, self._untaken)
            self._untaken = 0

    def _size(self) -> int:
        return self._messages.size

    def _ready(self) -> bool:
        """True if more may come."""
        return True

    def _cut(self, data: bytes) -> list[Message]:
        """Return the messages that are whole with this; none if they are refused."""
        self._untaken += len(data)
        try:
            return self._messages.feed(data)
        except Refused as error:
            self._refuse(error.status)
            return []

    def _asked(self, message: Message, about: CallMetadata, *, streamed: bool = False) -> Asked:
        coding = None
        if message.compressed:
            coding = self._head.coding or "identity"
        deadline = self._wanted_until
        return Asked(self._head.method, about, message.content, coding, deadline, streamed=streamed)

    def _refuse(self, why: BurnishError | Status) -> None:
        if not self.gone:
            self._end(self._service.refuse(read_metadata(self._headers, 0), why))

    def _end(self, status: Status) -> None:
        if not self.gone:
            self._connection.refuse(self._number, HEAD + status.trailers())


class UnaryCall(Call):
    """A call of one message and one answer; it is asked for with the others of its round."""

    _found: Message | None = None
    _others = 0

    def receive(self, data: bytes) -> None:
        """Take a part of the message."""
        for message in self._cut(data):
            self._others += self._found is not None
            self._found = message

    def ended(self) -> None:
        """Ask for it."""
        self.whole = True
        self.deadline = math.inf
        if self._kept.size:
            self._kept.count((), [])
        found = self._found
        if found is None or self._others or self._messages.size:
            about = read_metadata(self._headers, 0)
            asked = Asked(self._head.method, about, b"", missing=True)
        else:
            asked = self._asked(found, read_metadata(self._headers, len(found.content)))
            self._found = None
        self._service.calls.ask(self, asked)

    def answered(self, answer: Answered | Coroutine[Any, Any, Answered]) -> None:
        """Send the answer, now or when it is there."""
        if isinstance(answer, Answered):
            self._send(answer)
        else:
            self._work = asyncio.get_running_loop().create_task(answer)
            self._work.add_done_callback(self._worked)

    def _worked(self, work: asyncio.Task[Answered]) -> None:
        if work.cancelled() or self.gone:
            return
        self._work = None
        if (error := work.exception()) is not None:
            self.abort()
            raise error
        self._send(work.result())

    def _send(self, answer: Answered) -> None:
        if answer.body is None:
            self._end(answer.status)
        else:
            writer = self._connection.writer
            writer.begin(self._number, HEAD)
            writer.send(self._number, framed(answer.body))
            writer.end(self._number, answer.status.trailers())

    def _size(self) -> int:
        return self._messages.size + (len(self._found.content) if self._found is not None else 0)
