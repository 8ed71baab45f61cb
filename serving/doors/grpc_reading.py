"""What gRPC calls may hold while their messages are being read, in the account that bodies over HTTP stand in as well.

The size of a message is not known before it is whole, and the library keeps what has come of it. So a call whose
message is not there after a moment counts as the largest that may be, and is ended if there is no room for that. A
stream always counts so: which of its messages is being read is not known.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from registry.errors import InputError, QueueFull
from registry.records.tenant import TENANT_HEADER
from serving.doors.grpc_calls import Context, Received
from serving.engine.fair_turns import Tenant
from serving.engine.shared_bound import SharedBound

MOMENT_SECONDS = 0.1


class _Reading(NamedTuple):
    """A call whose message is awaited."""

    context: Context
    begun: float


class Readings:
    """The messages that are being read, in the order in which their calls came; all is done on the event loop."""

    def __init__(self, bound: SharedBound, message_bytes: int) -> None:
        """Take the account, and the largest message."""
        self._bound = bound
        self._message_bytes = message_bytes
        self._awaited: dict[asyncio.Task[Any], _Reading] = {}
        self._counted: dict[asyncio.Task[Any], Tenant] = {}
        self._ended: set[asyncio.Task[Any]] = set()
        self._looks: asyncio.TimerHandle | None = None

    async def message(self, context: Context) -> Received:
        """Read the one message of a call.

        Raises:
            QueueFull: too much is being read.
        """
        call = asyncio.current_task()
        assert call is not None
        if self._bound.full:
            raise _full()
        self._awaited[call] = _Reading(context, asyncio.get_running_loop().time())
        if self._looks is None:
            self._look_later()
        try:
            received = await context.read()
        except asyncio.CancelledError:
            if call in self._ended:
                raise _full() from None
            raise
        finally:
            self._over(call)
        if received is grpc.aio.EOF:
            return Received(InputError("the message: expected one, got none"), 0)
        return received

    @contextmanager
    def stream(self, context: Context) -> Iterator[None]:
        """Count a stream while it is open.

        Raises:
            QueueFull: too much is being read.
        """
        call = asyncio.current_task()
        assert call is not None
        if not self._count(call, _tenant(context)):
            raise _full()
        try:
            yield
        finally:
            self._over(call)

    def _over(self, call: asyncio.Task[Any]) -> None:
        self._awaited.pop(call, None)
        self._ended.discard(call)
        if call in self._counted:
            self._bound.give_back(self._counted.pop(call), self._message_bytes)

    def _count(self, call: asyncio.Task[Any], tenant: Tenant) -> bool:
        if not self._bound.fits(tenant, self._message_bytes):
            return False
        self._bound.take(tenant, self._message_bytes)
        self._counted[call] = tenant
        return True

    def _look_later(self) -> None:
        self._looks = asyncio.get_running_loop().call_later(MOMENT_SECONDS / 2, self._look)

    def _look(self) -> None:
        """Count the calls whose messages take their time, and end those that there is no room for."""
        self._looks = None
        before = asyncio.get_running_loop().time() - MOMENT_SECONDS
        for call, reading in self._awaited.items():
            if reading.begun > before:
                break
            if (
                call not in self._counted
                and call not in self._ended
                and not self._count(call, _tenant(reading.context))
            ):
                self._ended.add(call)
                call.cancel()
        if self._awaited:
            self._look_later()


def _tenant(context: Context) -> Tenant:
    metadata = context.invocation_metadata() or ()
    return next((str(value) for name, value in metadata if name == TENANT_HEADER), None)


def _full() -> QueueFull:
    return QueueFull("too much of other requests is being read; try again shortly")
