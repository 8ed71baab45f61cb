"""How every step runs under Prefect: retried for ``TransientError`` only, never cached by Prefect."""

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from registry.errors import TransientError

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_S = [1.0, 5.0, 15.0]


async def is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:  # noqa: ANN401
    """True if a step's failure may pass: Prefect's retry condition."""
    return isinstance(state.data, TransientError)


def step(name: str, run_name: str | None = None) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Make an async function a Prefect task under a name that people read on the run page.

    Args:
        name: of the task.
        run_name: of each of its runs, with the function's arguments in braces; by default Prefect numbers them.
    """
    decorate: Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]] = task(
        name=name,
        task_run_name=run_name,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=is_transient,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return decorate
