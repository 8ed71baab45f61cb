"""A real Envoy in front of two tiny workers, for the tests of the gateway."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from registry.records.tenant import Scope
from serving.gateway import files
from serving.gateway.plan import Endpoint, GatewayPlan
from serving.gateway.tenants import GatewayKey
from tests.integration.processes import free_pair, free_ports, wait_for

UPSTREAM = Path(__file__).with_name("upstream.py")
MAX_BODY_BYTES = 100_000
BODY = b"x" * 2000


@dataclass
class GatewayRig:
    """A gateway that runs, with its workers."""

    plan: GatewayPlan
    folder: Path
    workers: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    gateway: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Of the one port."""
        return f"http://127.0.0.1:{self.plan.port}"

    @property
    def grpc(self) -> str:
        """The same port, as gRPC's clients want it."""
        return f"127.0.0.1:{self.plan.port}"

    def statistic(self, name: str) -> int:
        """One of Envoy's counters; 0 if Envoy is not there."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.plan.admin_port}/stats", params={"filter": f"^{name}$"})
        except httpx.TransportError:
            return 0
        return int(answer.text.rsplit(":", 1)[-1]) if ":" in answer.text else 0

    def healthy(self, pool: str = "engine") -> tuple[int, int]:
        """How many workers Envoy holds for ready: of REST, of gRPC."""
        rest, rpc = (self.statistic(f"cluster.{pool}-{kind}.membership_healthy") for kind in ("rest", "grpc"))
        return rest, rpc

    def await_healthy(self, count: int, pool: str = "engine") -> None:
        """Wait until Envoy holds this many workers of a pool for ready, of either protocol."""
        wait_for(lambda: self.healthy(pool) == (count, count), f"{count} workers of {pool} to be ready", 90)

    def seen(self) -> int:
        """How many requests have come to any worker, probes apart."""
        answers = [httpx.get(f"http://127.0.0.1:{port}/seen", trust_env=False).json() for port in self.workers]
        return sum(answer["begun"] for answer in answers)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let every worker hold what is asked of the model ``held``, and /v2/held, as long as this lasts."""
        self._tell("hold")
        try:
            yield
        finally:
            self._tell("let-go")

    def _tell(self, what: str) -> None:
        for port in self.workers:
            assert httpx.get(f"http://127.0.0.1:{port}/{what}", trust_env=False).is_success

    def start_worker(self, port: int) -> None:
        """Start the worker with this REST door."""
        self.workers[port] = subprocess.Popen([sys.executable, "-P", str(UPSTREAM), str(port)], cwd=UPSTREAM.parents[2])

    def start_gateway(self) -> None:
        """Start Envoy on the files that are there."""
        with (self.folder.parent / "envoy.log").open("ab") as log:
            self.gateway = subprocess.Popen(files.command(self.folder), stderr=log)

    def logged(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        return [json.loads(line) for line in self.plan.access_log.read_text().splitlines()]

    def raw(self, sent: bytes, wait_s: float = 10.0) -> bytes:
        """Send bytes as they are and return all that comes back until the other side closes."""
        with socket.create_connection(("127.0.0.1", self.plan.port), timeout=wait_s) as connection:
            connection.sendall(sent)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes or falls silent."""
    found = b""
    try:
        while chunk := connection.recv(65536):
            found += chunk
    except TimeoutError:
        return found
    except ConnectionResetError:
        return found
    return found


def key(number: int, *scopes: Scope) -> GatewayKey:
    """A key that differs from those of other numbers; for inference if no scope is named."""
    text = f"bn_{number:012x}_{'s' * 43}"
    return GatewayKey(id=f"{number:012x}", key=SecretStr(text), scopes=scopes or (Scope.PREDICT,))


def bearer(of: GatewayKey) -> dict[str, str]:
    """The header that presents a key."""
    return {"authorization": f"Bearer {of.key.get_secret_value()}"}


def plan_of(home: Path, workers: int = 2, **fields: Any) -> GatewayPlan:  # noqa: ANN401
    """A plan on free ports, with short times."""
    port, admin = free_ports(2)
    given = {
        "port": port,
        "admin_port": admin,
        "workers": tuple(Endpoint(host="127.0.0.1", port=free_pair()) for _ in range(workers)),
        "access_log": home / "access.json",
        "max_body_bytes": MAX_BODY_BYTES,
        "health_interval_s": 0.2,
    }
    return GatewayPlan(**(given | fields))


@contextmanager
def gateway_alone(rig: GatewayRig) -> Iterator[GatewayRig]:
    """Start a gateway on its files, in front of workers that are there, and stop it at the end."""
    rig.start_gateway()
    assert rig.gateway is not None
    try:
        rig.await_healthy(len(rig.plan.workers))
        yield rig
    finally:
        rig.gateway.kill()
        rig.gateway.wait(10)


@contextmanager
def running(plan: GatewayPlan, home: Path) -> Iterator[GatewayRig]:
    """Start a gateway and its workers, wait until all is ready, and stop them at the end."""
    rig = GatewayRig(plan, home / "gateway")
    files.render(plan, rig.folder)
    every = [worker for pool in plan.by_pool().values() for worker in pool]
    try:
        for worker in every:
            rig.start_worker(worker.port)
        rig.start_gateway()
        for pool, workers in plan.by_pool().items():
            rig.await_healthy(len(workers), pool)
        yield rig
    finally:
        for process in (rig.gateway, *rig.workers.values()):
            if process is not None:
                process.kill()
                process.wait(10)
