"""HTTP/1.1 for small requests: parsed by httptools, answered in one write, refused before anything large is kept.

A general server pays for generality on every request: a task, a dictionary a message, two writes an answer. This one
hands on a request, and is given its answer at the end of the same round of the event loop if it need not wait.

Source: RFC 9112 (HTTP/1.1), RFC 9110 (status codes); https://github.com/MagicStack/httptools.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from serving.doors.http_messages import Application, Eventual, Headers, Refuse, Reply, Request, head_of
from serving.doors.http_rules import HttpLimits, check_head, head_again, large_headers, path_of, refusal_of, too_large
from serving.doors.kept_bodies import KeptBodies
from serving.doors.round import Round
from serving.doors.server import Connection, Server
from serving.engine.shared_bound import SharedBound

_MAX_QUEUED = 16
"""Pipelined requests of one connection that are read ahead; then the connection is not read until some are answered."""
_LINGER_SECONDS = 2.0
_JOIN_BYTES = 64 * 1024  # bodies up to this size are copied behind their head, which is cheaper than two writes
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpConnection(Connection):
    """One client. Requests are answered in order; callbacks named ``on_*`` are the parser's."""

    _transport: asyncio.Transport

    def __init__(
        self,
        ask: Callable[["HttpConnection", Request], None],
        refuse: Refuse,
        limits: HttpLimits,
        all_: set[Connection],
        bodies: SharedBound,
    ) -> None:
        """Take what gets answers, the form of refusals, the limits, the set of all connections, and their account.

        What gets answers calls ``answered`` for each request, never before it has returned.
        """
        self._deadline = math.inf  # never while the application works
        self._ask = ask
        self._refuse = refuse
        self._limits = limits
        self._all = all_
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._queued: deque[tuple[Request | Reply, bool]] = deque()
        self._asked = False
        """A request is not answered yet; those behind it are queued."""
        self._working: asyncio.Task[Reply] | None = None
        """What answers it, if it has to wait."""
        self._keep_alive = True
        self._hang_up = False
        """Nothing more is wanted of this client than what was read or is being read."""
        self._reading = False
        """A request has begun and is not read to its end."""
        self._broken = False
        """What follows on this connection cannot be read as requests any more."""
        self._refused = False
        self._other_bytes = 0
        """Read since a request began or since a part of its body: headers, lines of chunks, trailers."""
        self._full = False
        self._kept = KeptBodies(bodies)

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast("asyncio.Transport", transport)
        self._all.add(self)
        self._deadline = self._loop.time() + self._limits.idle_seconds

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, and with it whoever waited for an answer."""
        self._all.discard(self)
        self._broken = True
        self._queued.clear()
        self._kept.count((), [])
        if self._working is not None:
            self._working.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on; whatever cannot be read as requests is refused."""
        if self._broken:
            return
        self._other_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            self._read_again(data[stopped.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse_rest(*refusal_of(error))
        if self._other_bytes > self._limits.header_bytes:
            self._refuse_rest(431, str(large_headers(self._limits.header_bytes)))
        if self._reading or self._kept.size or self._queued:
            self._account()

    def pause_writing(self) -> None:
        """The client does not read its answers: read no more requests."""
        self._full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._full = False
        self._answer_queued()
        self._read_on()

    # The parser's side.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers: Headers = []
        self._head: Headers = self._headers
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._reading = True
        self._deadline = self._loop.time() + self._limits.read_seconds

    def on_url(self, url: bytes) -> None:
        """A part of the path."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or trailer."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """All headers are known: refuse what is too large before its body is read."""
        self._other_bytes = 0
        self._head, self._headers = self._headers, []  # what comes behind the body is not looked at
        waits = check_head(self._url, self._head, self._parser.get_http_version(), self._limits)
        if waits and not self._queued and not self._asked:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._other_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            raise too_large(self._limits.body_bytes)
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        if self._parser.should_upgrade():
            return  # it will be read again, with its body
        self._reading, self._other_bytes = False, 0
        self._deadline = self._loop.time() + self._limits.idle_seconds
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode()
        request: Request | Reply = Request(method, path_of(self._url), self._head, body)
        if method == "HEAD":  # an answer to it has no body: what stood there would be read as the next answer
            request = Reply(405, b"", [(b"allow", b"GET, POST")])
        self._take(request, self._parser.should_keep_alive())

    def _read_again(self, rest: bytes) -> None:
        """Read a request that asks for another protocol without that wish: for its sake the parser read no body."""
        stopped, self._parser = self._parser, httptools.HttpRequestParser(self)
        self.data_received(head_again(stopped.get_method(), self._url, self._head) + rest)

    # Answers, in order.

    def _take(self, request: Request | Reply, keep_alive: bool) -> None:
        if not self._asked and not self._queued and not self._full:
            self._answer(request, keep_alive)
            return
        self._queued.append((request, keep_alive))
        if self._enough_queued():
            self._transport.pause_reading()

    def _answer_queued(self) -> None:
        while self._queued and not self._asked and not self._full:
            self._answer(*self._queued.popleft())

    def _answer(self, request: Request | Reply, keep_alive: bool) -> None:
        self._keep_alive = keep_alive
        if isinstance(request, Reply):
            self._write(request)
        else:
            self._asked = True
            self._ask(self, request)

    @property
    def gone(self) -> bool:
        """True if nobody is there to be answered."""
        return self._transport.is_closing()

    def answered(self, answer: Eventual) -> None:
        """Give the client the answer to what was asked, now or when it is there."""
        if isinstance(answer, Reply):
            self._finish(answer)
        else:
            self._deadline = math.inf
            self._working = self._loop.create_task(answer)
            self._working.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[Reply]) -> None:
        self._working = None
        if not task.cancelled() and not self.gone:
            self._deadline = self._loop.time() + self._limits.idle_seconds
            if task.exception() is not None:  # nobody foresaw it: the client is not to wait for ever
                self.abort()
            self._finish(task.result())

    def _finish(self, reply: Reply) -> None:
        self._asked = False
        self._write(reply)
        if self._queued:
            self._answer_queued()
            if self._kept.size:
                self._account()
            self._read_on()

    def _write(self, reply: Reply) -> None:
        last = not self._keep_alive or (self._hang_up and not self._queued and not self._reading)
        head, body = head_of(reply, last=last), reply.body
        if len(body) <= _JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        if last:
            self._broken = True
            self._queued.clear()
            self._part()

    def _part(self) -> None:
        """Hang up; on a client that still sends only after a while, or the answer would be lost with the connection."""
        if self._refused and self._transport.can_write_eof():
            self._transport.write_eof()
            self._deadline = self._loop.time() + _LINGER_SECONDS
            self._transport.resume_reading()
        else:
            self._transport.close()

    def _read_on(self) -> None:
        if not self._full and not self._enough_queued() and not self._transport.is_closing():
            self._transport.resume_reading()

    def _enough_queued(self) -> bool:
        """True if no more is to be read ahead: requests enough, or as many bytes as one may have."""
        queued = self._queued
        return bool(queued) and (
            len(queued) >= _MAX_QUEUED or sum(len(request.body) for request, _ in queued) >= self._limits.body_bytes
        )

    def _account(self) -> None:
        """Count what is kept of bodies, and refuse what is too much beside all other connections."""
        queued = [len(request.body) for request, _ in self._queued]
        status = self._kept.count((*queued, self._body_bytes if self._reading else 0), self._head)
        if status is not None:
            self._refuse_rest(status, "too much of other requests is being read; try again shortly")
            self._kept.count(queued, self._head)

    def _refuse_rest(self, status: int, message: str) -> None:
        """Answer what cannot be read on with a refusal, after all that came before it, and hang up."""
        if self._broken:  # it was answered for the last time, and may send what it likes
            return
        self._broken = self._refused = True
        self._reading = False
        self._body = []
        self._take(self._refuse(status, message), False)

    # The server's side.

    def sweep(self, now: float) -> None:
        """Give up a client that is too slow with its request, or has none."""
        if now <= self._deadline:
            return
        if self._reading:
            self._refuse_rest(408, f"the request did not come within {self._limits.read_seconds:g} s")
        elif not self._asked:
            self._transport.close()

    def close_when_answered(self) -> None:
        """Answer what was read or is being read, then hang up."""
        self._hang_up = True
        if not self._asked and not self._queued and not self._reading:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()


def http_server(
    application: Application, refuse: Refuse, limits: HttpLimits, drain_seconds: float, bodies: SharedBound
) -> Server:
    """Return a server of an application, not opened yet; see ``Server`` and ``HttpConnection``."""
    ask = Round(application).ask
    return Server(lambda all_: HttpConnection(ask, refuse, limits, all_, bodies), drain_seconds)
