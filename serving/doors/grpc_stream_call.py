"""A gRPC call of any number of messages and answers, as it comes over HTTP/2."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from registry.errors import BurnishError
from serving.doors.grpc_call import Answered, Call, Service
from serving.doors.grpc_metadata import CallMetadata, read_metadata
from serving.doors.grpc_wire import HEAD, OK, Code, Head, Message, Status, framed
from serving.doors.http2 import Http2Connection
from serving.doors.http_messages import Headers


class StreamCall(Call):
    """A call of any number of messages, and of answers."""

    def __init__(
        self,
        service: Service,
        connection: Http2Connection,
        number: int,
        headers: Headers,
        at: Head,
        work: Callable[["StreamCall"], AsyncGenerator[bytes, None]],
    ) -> None:
        """Take what a call takes, and what answers it."""
        super().__init__(service, connection, number, headers, at)
        self.deadline = math.inf
        self.about = read_metadata(headers, 0)
        self._waiting: deque[Message] = deque()
        self._kept_bytes = 0
        self._news = asyncio.Event()
        self._begun = False
        self._work = asyncio.get_running_loop().create_task(self._answer(work(self)))
        self._work.add_done_callback(_raise)

    def receive(self, data: bytes) -> None:
        """Take a part of a message."""
        for message in self._cut(data):
            self._waiting.append(message)
            self._kept_bytes += len(message.content)
            self._news.set()

    def ended(self) -> None:
        """No more messages come."""
        self.whole = True
        self._news.set()

    async def messages(self) -> AsyncIterator[Message]:
        """Yield the messages as they come."""
        while True:
            while self._waiting:
                message = self._waiting.popleft()
                self._kept_bytes -= len(message.content)
                self.account()
                yield message
            if self.whole:
                return
            self._news.clear()
            await self._news.wait()

    async def ask(self, message: Message, about: CallMetadata) -> Answered:
        """Ask for one of the messages, with whatever else is asked in the round."""
        awaited = _Awaited(self)
        self._service.calls.ask(awaited, self._asked(message, about, streamed=True))
        return await awaited.result()

    async def _answer(self, answers: AsyncGenerator[bytes, None]) -> None:
        status, writer = OK, self._connection.writer
        try:
            async with aclosing(answers):
                async for answer in answers:
                    if not self._begun:
                        self._begun = True
                        writer.begin(self._number, HEAD)
                    writer.send(self._number, framed(answer))
                    await writer.sent(self._number)
        except BurnishError as error:
            status = self._service.refuse(self.about, error)
        except Exception:
            self._work = None
            self._end(Status(Code.UNKNOWN, "the server has failed"))
            raise
        self._work = None
        self._end(status)

    def _end(self, status: Status) -> None:
        if self._begun and not self.gone:
            self._connection.writer.end(self._number, status.trailers())
        else:
            super()._end(status)

    def _size(self) -> int:
        return self._messages.size + self._kept_bytes

    def _ready(self) -> bool:
        return not self._waiting


class _Awaited:
    """One message of a stream that is asked for."""

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._answer: asyncio.Future[Answered | Coroutine[Any, Any, Answered]] = (
            asyncio.get_running_loop().create_future()
        )

    @property
    def gone(self) -> bool:
        return self._call.gone or self._answer.cancelled()

    def answered(self, answer: Answered | Coroutine[Any, Any, Answered]) -> None:
        self._answer.set_result(answer)

    def abort(self) -> None:
        self._call.abort()

    async def result(self) -> Answered:
        answer = await self._answer
        return answer if isinstance(answer, Answered) else await answer


def _raise(work: asyncio.Task[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        raise error
