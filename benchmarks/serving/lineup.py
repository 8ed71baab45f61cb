"""Who is measured: each server, how it is started, and the requests that it is sent."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.ports import free_ports
from benchmarks.serving import engine
from benchmarks.serving.environments import PEERS, environment
from benchmarks.serving.figures import Target, Wire
from benchmarks.serving.network import JSON, binary_head
from benchmarks.serving.servers import Command

BURNISH = "Burnish"
BURNISH_2 = "Burnish, two workers"
BURNISH_WIDE = "Burnish, JSON of 1k floats"
BURNISH_BINARY = "Burnish, binary of 1k floats"
BURNISH_GRPC = "Burnish gRPC"
BARE = "bare ASGI"
BARE_WIDE = "bare ASGI, JSON of 1k floats"
BARE_BINARY = "bare ASGI, binary of 1k floats"
BARE_GRPC = "bare grpc.aio"
FASTAPI = "FastAPI"
BENTOML = "BentoML"
BENTOML_LOOP = "BentoML async"
BENTOML_BATCHED = "BentoML batchable"
LITSERVE = "LitServe"
MLSERVER = "MLServer REST"
MLSERVER_GRPC = "MLServer gRPC"

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_ROOT = Path(__file__).parents[2]


class Site(NamedTuple):
    """Where the benchmark works."""

    folder: Path
    environments: Path | None
    """Where the peers' environments are made; None: the bare servers run in this one, and no others."""

    @property
    def networks(self) -> Path:
        """Folder of ``NAME.onnx``."""
        return self.folder / "networks"

    def body(self, name: str) -> Path:
        """The file of a request's body."""
        return (self.folder / "requests" / name).absolute()

    def python(self, peer: str) -> Path:
        """The interpreter of a peer; its environment is made if it is not there.

        Raises:
            CannotInstall: it cannot be made.
        """
        return Path(sys.executable) if self.environments is None else environment(peer, self.environments).absolute()

    def work(self, name: str) -> Path:
        """A folder for what a server writes."""
        folder = self.folder / "work" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder.absolute()


class _At(NamedTuple):
    """What the targets of one server share."""

    server: str
    settled: str
    ports: tuple[int, ...]


class Entrant(NamedTuple):
    """A server that was planned: how to start it and what to send it."""

    command: Command
    targets: tuple[Target, ...]


def burnish(site: Site, workers: int = 1) -> Entrant:
    """The engine with one worker, or with two on a door each."""
    port, bento_port = free_ports([engine.PORTS, (0,)])
    name = "burnish" if workers == 1 else f"burnish-{workers}"
    command = engine.engine(site.networks, site.work(name), workers, port, bento_port)
    doors = tuple(port + 10 * worker for worker in range(workers))
    at = _At(name, engine.SETTLED, doors)
    if workers > 1:
        return Entrant(command, (_oip(site, BURNISH_2, "small", at),))
    grpc = at._replace(ports=tuple(door + 1 for door in doors))
    return Entrant(
        command,
        (
            _oip(site, BURNISH, "small", at),
            _oip(site, BURNISH_WIDE, "wide", at),
            _binary(site, BURNISH_BINARY, "wide", at),
            _grpc(site, BURNISH_GRPC, grpc),
        ),
    )


def two_workers(site: Site) -> Entrant:
    """The engine with two workers."""
    return burnish(site, workers=2)


def bare(site: Site) -> Entrant:
    """An ASGI function on uvicorn."""
    (port,) = free_ports([(0,)])
    arguments = (str(site.python("bare")), str(PEERS / "bare" / "server.py"), str(site.networks.absolute()), str(port))
    at = _At("bare", "uvicorn, uvloop, httptools, orjson, no access log", (port,))
    return Entrant(
        Command(arguments, {}, site.work("bare"), (port,)),
        (
            _oip(site, BARE, "small", at),
            _oip(site, BARE_WIDE, "wide", at),
            _binary(site, BARE_BINARY, "wide", at),
        ),
    )


def bare_grpc(site: Site) -> Entrant:
    """A servicer of ``grpc.aio`` on uvloop."""
    (port,) = free_ports([(0,)])
    program = str(PEERS / "bare" / "grpc_server.py")
    messages = str(_ROOT / "serving" / "doors" / "protocol")
    arguments = (str(site.python("bare")), program, str(site.networks.absolute()), str(port), messages)
    target = _grpc(site, BARE_GRPC, _At("bare-grpc", "grpc.aio on uvloop", (port,)))
    return Entrant(Command(arguments, {}, site.work("bare-grpc"), (port,)), (target,))


def fastapi(site: Site) -> Entrant:
    """FastAPI with pydantic models."""
    return _lists(site, FASTAPI, "fastapi", "uvicorn, uvloop, httptools, async def, no access log")


def litserve(site: Site) -> Entrant:
    """LitServe."""
    return _lists(site, LITSERVE, "litserve", "one API process, one worker, fast_queue, no access log")


def bentoml(site: Site) -> Entrant:
    """BentoML's own endpoints."""
    (port,) = free_ports([(0,)])
    work = site.work("bentoml")
    program = str(site.python("bentoml").parent / "bentoml")
    serve = (program, "serve", "service:Network", "--working-dir", str(PEERS / "bentoml"))
    variables = {
        "PEER_MODEL": str((site.networks / "small.onnx").absolute()),
        "BENTOML_HOME": str(work / "home"),
        "BENTOML_DO_NOT_TRACK": "true",
    }
    command = Command((*serve, "--host", "127.0.0.1", "--port", str(port)), variables, work, (port,))
    paths = {BENTOML: "predict", BENTOML_LOOP: "predict_on_loop", BENTOML_BATCHED: "predict_batched"}
    at = _At("bentoml", "one worker, access log off", (port,))
    targets = tuple(_http(site, name, at, f"/{path}", "small.lists") for name, path in paths.items())
    return Entrant(command, targets)


def mlserver(site: Site) -> Entrant:
    """MLServer's REST and gRPC."""
    http, grpc, metrics = free_ports([(0,), (0,), (0,)])
    work = site.work("mlserver")
    variables = {
        "PEER_MODEL": str((site.networks / "small.onnx").absolute()),
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(metrics),
    }
    arguments = (str(site.python("mlserver").parent / "mlserver"), "start", str(PEERS / "mlserver"))
    at = _At("mlserver", "parallel_workers 0, debug off, gzip off", (http,))
    return Entrant(
        Command(arguments, variables, work, (http, grpc)),
        (_oip(site, MLSERVER, "small", at), _grpc(site, MLSERVER_GRPC, at._replace(ports=(grpc,)))),
    )


OURS: dict[str, Callable[[Site], Entrant]] = {"burnish": burnish, "bare": bare}
"""What the short form measures."""

ALL: dict[str, Callable[[Site], Entrant]] = {
    **OURS,
    "burnish-2": two_workers,
    "bare-grpc": bare_grpc,
    "fastapi": fastapi,
    "bentoml": bentoml,
    "litserve": litserve,
    "mlserver": mlserver,
}


def _http(site: Site, name: str, at: _At, path: str, body: str) -> Target:
    return Target(
        name=name,
        server=at.server,
        settled=at.settled,
        ports=at.ports,
        path=path,
        headers=JSON,
        body=site.body(body),
    )


def _oip(site: Site, name: str, network: str, at: _At) -> Target:
    return _http(site, name, at, f"/v2/models/{network}/infer", f"{network}.json")


def _binary(site: Site, name: str, network: str, at: _At) -> Target:
    length = {"inference-header-content-length": str(len(binary_head(network)))}
    headers = {"content-type": "application/octet-stream", **length}
    target = _http(site, name, at, f"/v2/models/{network}/infer", f"{network}.binary")
    return target.model_copy(update={"headers": headers})


def _grpc(site: Site, name: str, at: _At) -> Target:
    target = _http(site, name, at, _METHOD, "small.grpc")
    return target.model_copy(update={"wire": Wire.GRPC, "headers": {}})


def _lists(site: Site, name: str, peer: str, settled: str) -> Entrant:
    """A server of ours over a peer's library: ``server.py FOLDER PORT``, which takes nested lists at ``/predict``."""
    (port,) = free_ports([(0,)])
    arguments = (str(site.python(peer)), str(PEERS / peer / "server.py"), str(site.networks.absolute()), str(port))
    target = _http(site, name, _At(peer, settled, (port,)), "/predict", "small.lists")
    return Entrant(Command(arguments, {}, site.work(peer), (port,)), (target,))
