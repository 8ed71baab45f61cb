"""The runner: serves every flow as a Prefect deployment, so that UI, API and schedules can start it."""

import asyncio
import time

import httpx
from prefect import aserve
from prefect.types.entrypoint import EntrypointType

from flows.monitor import monitor
from flows.optimize import optimize
from flows.release import release, rollback
from flows.retrain import retrain
from flows.settings import StackSettings
from registry.errors import TransientError

PREFECT_WAIT_S = 120.0
RUNS_AT_ONCE = 4


async def await_prefect(url: str, wait_s: float = PREFECT_WAIT_S) -> None:
    """Wait until the Prefect server answers.

    Raises:
        TransientError: it did not within the bound.
    """
    deadline = time.monotonic() + wait_s
    async with httpx.AsyncClient(timeout=5.0) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"{url}/api/health")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)
    raise TransientError(f"the Prefect server at {url} did not answer within {wait_s:.0f} s")


async def main() -> None:
    """Serve the deployments until the process is stopped."""
    settings = StackSettings()
    await await_prefect(settings.prefect_url)
    by_module = EntrypointType.MODULE_PATH
    # One optimization at a time: two would disturb each other's measurements.
    deployments = [
        await optimize.ato_deployment("optimize", concurrency_limit=1, entrypoint_type=by_module, tags=["burnish"]),
        await release.ato_deployment("release", entrypoint_type=by_module, tags=["burnish"]),
        await rollback.ato_deployment("rollback", entrypoint_type=by_module, tags=["burnish"]),
        await monitor.ato_deployment(
            "monitor", cron=settings.monitor_cron, entrypoint_type=by_module, tags=["burnish"]
        ),
        await retrain.ato_deployment(
            "retrain", cron=settings.retrain_cron, entrypoint_type=by_module, tags=["burnish"]
        ),
    ]
    # Not paused when it stops: the Prefect server stops at the same time, and to ask it would take until the kill.
    await aserve(*deployments, pause_on_shutdown=False, limit=RUNS_AT_ONCE, print_starting_message=False)


if __name__ == "__main__":
    asyncio.run(main())
