"""One of two real workers is stopped in the orderly way, or killed, under load through a real Envoy."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from burnish.stack.workers import EngineWorkers
from registry.errors import InputError
from serving.gateway import files
from serving.gateway.plan import Endpoint, GatewayPlan
from tests.integration.load import Account, infer_body, open_loop
from tests.integration.processes import free_ports, wait_for
from tests.integration.workers import Workers, until

RATE = 60.0
PATH = "/v2/models/steady/infer"
BODY = infer_body([1, 2])


@dataclass(frozen=True)
class Rig:
    """An engine, the gateway in front of it, and the one who restarts its workers."""

    workers: Workers
    url: str
    admin: str
    engine: EngineWorkers
    access_log: Path

    def healthy(self) -> int:
        """How many workers Envoy holds for ready."""
        try:
            answer = httpx.get(f"{self.admin}/stats?filter=engine-rest.membership_healthy", timeout=5)
        except httpx.TransportError:
            return 0
        return int(answer.text.rsplit(":", 1)[-1]) if ":" in answer.text else 0

    def asked(self) -> set[str]:
        """Where the gateway says that it has sent requests."""
        return {json.loads(line)["worker"] for line in self.access_log.read_text().splitlines()}

    def listens(self) -> bool:
        """True if requests get through the gateway: it opens its port after it has seen the workers."""
        try:
            return httpx.get(f"{self.url}/v2/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def door(workers: Workers, worker: int) -> Endpoint:
    """A worker's doors as the stack's own gateway is told of them: as files."""
    port = int(urlsplit(workers.doors[worker]).port or 0)
    first = int(urlsplit(workers.doors[0]).port or 0)
    return Endpoint(host="127.0.0.1", port=port, sockets=workers.home / "engine" / "doors" / f"{first}-{worker}")


@pytest.fixture(scope="module")
def rig(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    workers.publish("steady", 1, 2)
    until(lambda: workers.generations("steady") == [1, 1], "the model is known")
    port, admin = free_ports(2)
    doors = tuple(door(workers, worker) for worker in (0, 1))
    home = tmp_path_factory.mktemp("gateway")
    plan = GatewayPlan(port=port, admin_port=admin, workers=doors, access_log=home / "access.json")
    folder = home / "files"
    files.render(plan, folder)
    with (home / "envoy.log").open("wb") as log:
        gateway = subprocess.Popen(files.command(folder), stderr=log)
    restarter = EngineWorkers(folder, doors)
    rig = Rig(workers, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", restarter, plan.access_log)
    try:
        wait_for(lambda: rig.healthy() == 2 and rig.listens(), "both workers to be ready behind the gateway", 60)
        yield rig
    finally:
        gateway.kill()
        gateway.wait(10)


async def restart(rig: Rig, times: int) -> Account:
    """Restart the workers in turn while requests go through the gateway."""
    async with open_loop([rig.url], PATH, BODY, RATE) as account:
        for number in range(times):
            worker = number % 2
            pid = await asyncio.to_thread(rig.workers.pid, worker)
            state = await asyncio.to_thread(rig.engine.restart, worker)
            assert state.ready
            assert state.pid != pid
            await asyncio.to_thread(wait_for, lambda: rig.healthy() == 2, "Envoy to see both", 30)
    return account


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_workers_that_are_restarted_in_the_orderly_way_lose_no_request(rig: Rig, times: int) -> None:
    account = asyncio.run(restart(rig, times))
    account.check()
    assert set(account.by_version) == {2}
    by_file = {f"{door(rig.workers, worker).sockets}/rest" for worker in (0, 1)}
    wait_for(lambda: rig.asked() >= by_file, "the gateway to log that it has asked both by their files")


async def kill(rig: Rig, worker: int) -> Account:
    """Kill a worker under load, and go on until another has taken its place."""
    async with open_loop([rig.url], PATH, BODY, RATE) as account:
        await asyncio.sleep(0.5)
        pid = await asyncio.to_thread(rig.workers.pid, worker)
        os.kill(pid, signal.SIGKILL)
        before = len(account.answers)
        await asyncio.to_thread(rig.workers.await_replacement, worker, pid)
        assert len(account.answers) > before, "the other worker served on"
    return account


@pytest.mark.parametrize("worker", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_worker_comes_back_and_no_client_sees_a_failure(rig: Rig, worker: int) -> None:
    account = asyncio.run(kill(rig, worker))
    account.check()
    assert not (rig.workers.home / "engine" / "deaths.json").exists(), "to be killed is no version's fault"
    wait_for(lambda: rig.healthy() == 2, "both workers to be ready behind the gateway", 60)


def test_a_worker_is_not_restarted_where_that_would_interrupt(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no worker 2; there are 0 to 1"):
        rig.engine.restart(2)
    first = int(urlsplit(rig.workers.doors[0]).port or 0)
    doors = (Endpoint(host="127.0.0.1", port=first), Endpoint(host="127.0.0.1", port=1))
    port, admin = free_ports(2)
    files.render(GatewayPlan(port=port, admin_port=admin, workers=doors, access_log=tmp_path / "log"), tmp_path)
    before = (tmp_path / "eds-engine-rest.json").read_text()
    lonely = EngineWorkers(tmp_path, doors)
    with pytest.raises(InputError, match="no other worker than 0 is ready"):
        lonely.restart(0)
    with pytest.raises(InputError, match="worker 1 does not answer"):
        lonely.restart(1)
    assert (tmp_path / "eds-engine-rest.json").read_text() == before
