"""The client for asyncio: every call of ``Client``, awaited. A call runs in a thread of its own, off the event loop."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from burnish.client import Client

_AT_ONCE = 32

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    call: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate["AsyncClient", P], Awaitable[T]]:
    """Make a call of the client one that is awaited, with the same arguments and the same answer."""

    @functools.wraps(call)
    async def later(self: "AsyncClient", /, *args: P.args, **named: P.kwargs) -> T:
        asked = functools.partial(call, self.client, *args, **named)
        return await asyncio.get_running_loop().run_in_executor(self.threads, asked)

    return later


class AsyncClient:
    """A stack, found as ``Client`` finds it; at most 32 calls run at once, further ones wait.

    What a call is told to call back is called in the call's thread. A call that is cancelled goes on unseen.
    """

    def __init__(
        self, control_url: str | None = None, gateway_url: str | None = None, *, api_key: str | None = None
    ) -> None:
        """Find the addresses; nothing is sent yet.

        Raises:
            InputError: the stack's file cannot be read.
        """
        self.client = Client(control_url, gateway_url, api_key=api_key)
        self.threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="burnish-client")

    async def close(self) -> None:
        """Wait for the calls that run, then close all connections."""
        await asyncio.to_thread(self.threads.shutdown)
        self.client.close()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.close()

    upload = _awaited(Client.upload)
    push_files = _awaited(Client.push_files)
    optimization = _awaited(Client.optimization)
    optimizations = _awaited(Client.optimizations)
    candidates = _awaited(Client.candidates)
    cancel = _awaited(Client.cancel)
    wait = _awaited(Client.wait)
    models = _awaited(Client.models)
    versions = _awaited(Client.versions)
    promote = _awaited(Client.promote)
    rollback = _awaited(Client.rollback)
    policy = _awaited(Client.policy)
    set_policy = _awaited(Client.set_policy)
    traffic = _awaited(Client.traffic)
    set_traffic = _awaited(Client.set_traffic)
    set_shadow = _awaited(Client.set_shadow)
    end_shadow = _awaited(Client.end_shadow)
    start_experiment = _awaited(Client.start_experiment)
    experiment = _awaited(Client.experiment)
    experiments = _awaited(Client.experiments)
    end_experiment = _awaited(Client.end_experiment)
    predict = _awaited(Client.predict)
    explain = _awaited(Client.explain)
    explain_artifact = _awaited(Client.explain_artifact)
    status = _awaited(Client.status)
    monitor = _awaited(Client.monitor)
    drift_reports = _awaited(Client.drift_reports)
    retrain = _awaited(Client.retrain)
    feedback = _awaited(Client.feedback)
