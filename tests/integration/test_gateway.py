"""A real Envoy in front of two real workers."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from serving.gateway import files
from serving.gateway.plan import Endpoint, GatewayPlan
from tests.integration.processes import free_ports, wait_for

UPSTREAM = Path(__file__).with_name("upstream.py")


@dataclass
class Rig:
    plan: GatewayPlan
    folder: Path
    workers: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.plan.port}"

    def healthy(self) -> int:
        """How many workers Envoy holds for ready."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.plan.admin_port}/stats?filter=membership_healthy", timeout=5)
        except httpx.TransportError:
            return 0
        return int(answer.text.rsplit(":", 1)[-1]) if ":" in answer.text else 0

    def start(self, port: int) -> None:
        self.workers[port] = subprocess.Popen([sys.executable, str(UPSTREAM), str(port)])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    port, admin, first, second = free_ports(4)
    plan = GatewayPlan(
        port=port,
        admin_port=admin,
        workers=(Endpoint(host="127.0.0.1", port=first), Endpoint(host="127.0.0.1", port=second)),
        access_log=tmp_path / "access.json",
        max_body_bytes=100_000,
        health_interval_s=0.2,
    )
    rig = Rig(plan, tmp_path / "gateway")
    files.render(plan, rig.folder)
    files.validate(rig.folder)
    rig.start(first)
    rig.start(second)
    with (tmp_path / "envoy.log").open("wb") as log:
        gateway = subprocess.Popen(files.command(rig.folder), stderr=log)
    try:
        wait_for(lambda: rig.healthy() == 2, "both workers to be ready behind the gateway")
        yield rig
    finally:
        for process in (gateway, *rig.workers.values()):
            process.kill()
            process.wait(10)


async def load(rig: Rig, requests: int, at: dict[int, Callable[[], None]]) -> Counter[tuple[int, str]]:
    """Send requests, 16 at a time, and do what ``at`` says once that many have been sent."""
    seen: Counter[tuple[int, str]] = Counter()
    numbers = iter(range(requests))

    async def client(session: httpx.AsyncClient) -> None:
        for number in numbers:
            if number in at:
                at[number]()
            answer = await session.post("/v2/models/m/infer", content=b"x" * 2000)
            seen[answer.status_code, answer.headers.get("x-worker", "")] += 1

    async with httpx.AsyncClient(base_url=rig.url, timeout=20, trust_env=False) as session:
        await asyncio.gather(*(client(session) for _ in range(16)))
    return seen


def test_kill_9_of_a_worker_under_load_reaches_no_client(rig: Rig) -> None:
    first, second = (worker.port for worker in rig.plan.workers)
    seen = asyncio.run(load(rig, 600, {200: rig.workers[first].kill}))
    assert sum(seen.values()) == 600
    assert {status for status, _ in seen} == {200}
    assert 0 < seen[200, str(first)] < seen[200, str(second)]
    rig.start(first)
    wait_for(lambda: rig.healthy() == 2, "the restarted worker to be ready")
    seen = asyncio.run(load(rig, 100, {}))
    assert set(seen) == {(200, str(first)), (200, str(second))}


def test_taking_a_worker_out_and_in_under_load_loses_nothing(rig: Rig) -> None:
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


def test_with_no_worker_the_answer_is_503_and_the_gateway_lives(rig: Rig) -> None:
    for process in rig.workers.values():
        process.kill()
    wait_for(lambda: rig.healthy() == 0, "both workers to be found dead")
    assert httpx.get(f"{rig.url}/v2", timeout=10).status_code == 503
    rig.start(rig.plan.workers[0].port)
    wait_for(lambda: rig.healthy() == 1, "the worker to be ready again")
    assert httpx.get(f"{rig.url}/v2", timeout=10).status_code == 200


def test_requests_that_hide_something_or_are_too_large_are_refused(rig: Rig) -> None:
    with httpx.Client(base_url=rig.url, timeout=20, trust_env=False) as client:
        assert client.post("/v2/x", content=b"x" * 100_000).text == "100000"
        assert client.post("/v2/x", content=b"x" * 100_001).status_code == 413
        chunks = client.post("/v2/x", content=iter([b"x" * 60_000, b"x" * 60_000]))
        assert chunks.status_code == 413
        assert client.get("/v2/x%2F..%2Fsecret").status_code == 400
        assert client.get("/v2/x", headers={"x_worker": "1"}).status_code == 400
        assert client.get("/v2//a/../b").headers["x-path"] == "/v2/b"


def test_the_access_log_has_one_json_line_a_request_with_the_clients_own_id(rig: Rig) -> None:
    answer = httpx.post(f"{rig.url}/v2/models/m/infer", content=b"xy", headers={"x-request-id": "mine"}, timeout=10)

    def logged() -> bool:
        return '"mine"' in rig.plan.access_log.read_text()

    wait_for(logged, "the access log")
    lines = [json.loads(line) for line in rig.plan.access_log.read_text().splitlines()]
    (line,) = [line for line in lines if line["request_id"] == "mine"]
    assert (line["status"], line["received_bytes"], line["attempts"]) == (200, 2, 1)
    assert line["worker"].endswith(answer.headers["x-worker"])
