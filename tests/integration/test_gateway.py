"""A real Envoy in front of two real workers."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from serving.gateway import files
from tests.integration.gateway_rig import GatewayRig, plan_of, running
from tests.integration.processes import wait_for


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayRig]:
    home = tmp_path_factory.mktemp("gateway")
    with running(plan_of(home), home) as rig:
        yield rig


@pytest.fixture
def rig(gateway: GatewayRig) -> GatewayRig:
    """The gateway with both workers in rotation."""
    files.set_workers(gateway.folder, gateway.plan.workers)
    for port, process in list(gateway.workers.items()):
        if process.poll() is not None:
            gateway.start_worker(port)
    gateway.await_healthy(2)
    return gateway


async def load(rig: GatewayRig, requests: int, at: dict[int, Callable[[], None]]) -> Counter[tuple[int, str]]:
    """Send requests, 16 at a time, and do what ``at`` says once that many have been sent."""
    seen: Counter[tuple[int, str]] = Counter()
    numbers = iter(range(requests))

    async def client(session: httpx.AsyncClient) -> None:
        for number in numbers:
            if number in at:
                at[number]()
            answer = await session.post(f"/v2/models/m{number}/infer", content=b"x" * 2000)
            seen[answer.status_code, answer.headers.get("x-worker", "")] += 1

    async with httpx.AsyncClient(base_url=rig.url, timeout=20, trust_env=False) as session:
        await asyncio.gather(*(client(session) for _ in range(16)))
    return seen


def test_kill_9_of_a_worker_under_load_reaches_no_client(rig: GatewayRig) -> None:
    first, second = (worker.port for worker in rig.plan.workers)
    seen = asyncio.run(load(rig, 600, {200: lambda: rig.workers[first].send_signal(signal.SIGUSR1)}))
    assert sum(seen.values()) == 600
    assert {status for status, _ in seen} == {200}
    assert 0 < seen[200, str(first)] < seen[200, str(second)]
    rig.start_worker(first)
    rig.await_healthy(2)
    seen = asyncio.run(load(rig, 100, {}))
    assert set(seen) == {(200, str(first)), (200, str(second))}


def test_taking_a_worker_out_and_in_under_load_loses_nothing(rig: GatewayRig) -> None:
    first, second = rig.plan.workers
    turns = {
        100: lambda: files.set_workers(rig.folder, (second,)),
        200: lambda: files.set_workers(rig.folder, (first, second)),
        300: lambda: files.set_workers(rig.folder, (second,)),
    }
    seen = asyncio.run(load(rig, 600, turns))
    assert sum(seen.values()) == 600
    assert {status for status, _ in seen} == {200}
    after = asyncio.run(load(rig, 100, {}))
    assert set(after) == {(200, str(second.port))}


def test_with_no_worker_the_answer_is_503_and_the_gateway_lives(rig: GatewayRig) -> None:
    for process in rig.workers.values():
        process.kill()
        process.wait(10)
    rig.await_healthy(0)
    refused = httpx.get(f"{rig.url}/v2", timeout=10)
    assert (refused.status_code, refused.json()) == (503, {"error": "no worker is ready"})
    assert refused.headers["retry-after"] == "1"
    rig.start_worker(rig.plan.workers[0].port)
    rig.await_healthy(1)
    assert httpx.get(f"{rig.url}/v2", timeout=10).status_code == 200


def test_the_access_log_has_one_json_line_a_request_with_the_clients_own_id(rig: GatewayRig) -> None:
    answer = httpx.post(f"{rig.url}/v2/models/m/infer", content=b"xy", headers={"x-request-id": "mine"}, timeout=10)

    wait_for(lambda: '"mine"' in rig.plan.access_log.read_text(), "the access log")
    (line,) = [line for line in rig.logged() if line["request_id"] == "mine"]
    assert (line["status"], line["received_bytes"], line["attempts"]) == (200, 2, 1)
    assert line["worker"].endswith(answer.headers["x-worker"])
