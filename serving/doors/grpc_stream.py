"""A stream of inferences over gRPC: answered in order, several under way at once, so that they share runs."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from serving.doors.grpc_call import Answered
from serving.doors.grpc_stream_call import StreamCall
from serving.doors.requests import new_request_id

STREAM_WINDOW = 64
"""Requests of one stream that may be under way; more are read when some are answered."""


async def stream_infer(call: StreamCall) -> AsyncGenerator[bytes, None]:
    """Answer each request of a stream, in their order.

    Raises:
        InputError: the ids of the call are none.
    """
    working: asyncio.Queue[asyncio.Task[Answered] | None] = asyncio.Queue()
    window = asyncio.Semaphore(STREAM_WINDOW)
    tasks: set[asyncio.Task[Any]] = set()

    async def read() -> None:
        try:
            async for message in call.messages():
                call.about.check()  # not before: Python's client loses a status that comes before it has sent anything
                await window.acquire()
                about = call.about._replace(request_id=new_request_id(), given=False, size=len(message.content))
                task = asyncio.create_task(call.ask(message, about))
                tasks.add(task)
                working.put_nowait(task)
        finally:
            working.put_nowait(None)

    tasks.add(reader := asyncio.create_task(read()))
    try:
        while (task := await working.get()) is not None:
            answer = await task
            if answer.body is not None:
                yield answer.body
            tasks.discard(task)
            window.release()
        await reader
    finally:
        for left in tasks:
            left.cancel()
