"""The gateway as it is benchmarked: two engine workers, all filters on, run by the stack's own supervisor."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from pydantic import SecretStr

from benchmarks.gateway.bare import bare_envoy
from benchmarks.ports import free_ports
from benchmarks.serving import engine as serving_engine
from benchmarks.serving import lineup
from benchmarks.serving.check import answers
from benchmarks.serving.figures import Target, Wire
from benchmarks.serving.network import binary_head, write_networks, write_requests
from benchmarks.serving.servers import Server
from burnish.stack import lifecycle
from burnish.stack.plan import Part, Probe, StackPlan, read_state
from registry.records.tenant import Scope
from serving.gateway import files
from serving.gateway.plan import Endpoint, GatewayPlan
from serving.gateway.tenants import GatewayKey, GatewayTenant, set_tenants

NOISY_LIMIT_PER_S = 100.0
_FREE_PER_S = 1_000_000.0
"""A limit that is counted and does not bind."""
_METHOD = "/inference.GRPCInferenceService/ModelInfer"


class GatewaySite(NamedTuple):
    """What runs, and what is sent to it."""

    home: Path
    direct: Target
    json: Target
    binary: Target
    grpc: Target
    noisy: Target
    bare: Target
    """The same as `json`, through an Envoy that only passes it on to the first worker."""
    engine: tuple[int, ...]
    """Processes of the engine."""
    workers: tuple[Endpoint, ...]
    bare_gateway: tuple[int, ...]

    @contextlib.contextmanager
    def one_worker(self) -> Iterator[Target]:
        """Leave the gateway one worker for a while; yield the requests straight to that one's door."""
        folder = self.home / "gateway"
        files.set_workers(folder, self.workers[:1])
        try:
            yield self.direct.model_copy(update={"ports": self.direct.ports[:1]})
        finally:
            files.set_workers(folder, self.workers)

    def gateway(self) -> psutil.Process:
        """The process of the gateway that runs now."""
        state = read_state(self.home)
        assert state is not None
        return psutil.Process(state.parts["gateway"].process.pid)


def open_site(stack: contextlib.ExitStack, folder: Path) -> GatewaySite:
    """Start the engine and the gateway; the stack's end stops them."""
    site = lineup.Site(folder, None)
    write_networks(site.networks)
    write_requests(folder / "requests")
    entrant = lineup.burnish(site, workers=2)
    (direct,) = entrant.targets
    engine = Server("engine", entrant.command, folder / "logs" / "engine.log")
    stack.callback(engine.stop)
    engine.wait(lambda: answers(direct))
    quiet, noisy = _key(1), _key(2)
    port, admin, bare_port = free_ports([(0,), (0,), (0,)])
    home = (folder / "home").absolute()
    doors = zip(direct.ports, serving_engine.socket_folders(entrant.command), strict=True)
    plan = GatewayPlan(
        port=port,
        admin_port=admin,
        workers=tuple(Endpoint(host="127.0.0.1", port=port, sockets=folder) for port, folder in doors),
        access_log=home / "logs" / "gateway-access.json",
    )
    _run(stack, plan, home, quiet, noisy)
    bare = direct.model_copy(update={"name": "bare", "server": "bare", "ports": (bare_port,)})
    passing = bare_envoy(site.work("bare"), bare_port, plan.workers[0])
    alone = Server("the bare Envoy", passing, folder / "logs" / "bare.log")
    stack.callback(alone.stop)
    alone.wait(lambda: answers(bare))
    through = direct.model_copy(update={"name": "json", "server": "gateway", "ports": (port,)})
    binary = {
        "name": "binary",
        "path": "/v2/models/wide/infer",
        "body": site.body("wide.binary"),
        "headers": {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(binary_head("wide"))),
        },
    }
    grpc = {"name": "grpc", "wire": Wire.GRPC, "path": _METHOD, "body": site.body("small.grpc"), "headers": {}}
    return GatewaySite(
        home,
        direct,
        _with(through, quiet),
        _with(through.model_copy(update=binary), quiet),
        _with(through.model_copy(update=grpc), quiet),
        _with(through.model_copy(update={"name": "noisy"}), noisy),
        bare,
        engine.pids(),
        plan.workers,
        alone.pids(),
    )


def _run(stack: contextlib.ExitStack, plan: GatewayPlan, home: Path, quiet: GatewayKey, noisy: GatewayKey) -> None:
    folder = home / "gateway"
    tenants = (
        GatewayTenant(name="default", keys=(quiet,), requests_per_s=_FREE_PER_S, bytes_per_s=2**31),
        GatewayTenant(name="noisy", keys=(noisy,), requests_per_s=NOISY_LIMIT_PER_S, bytes_per_s=2**31),
    )
    set_tenants(folder, tenants, require_keys=True)
    files.render(plan, folder)
    ready = Probe(url=f"http://127.0.0.1:{plan.admin_port}/ready")
    part = Part(name="gateway", command=files.command(folder), probes=(ready,), stop_seconds=5.0)
    stack.callback(lifecycle.stop, home)
    lifecycle.start(StackPlan(home=home, parts=(part,)), lambda *_: None)


def _key(number: int) -> GatewayKey:
    text = SecretStr(f"bn_{number:012x}_{'b' * 43}")
    return GatewayKey(id=f"{number:012x}", key=text, scopes=(Scope.PREDICT,))


def _with(target: Target, key: GatewayKey) -> Target:
    headers = {**target.headers, "authorization": f"Bearer {key.key.get_secret_value()}"}
    return target.model_copy(update={"headers": headers})
