"""What the gateway shall do, as a value; the configuration is built from it alone."""

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from registry.records.base import Record
from registry.records.tenant import QualifiedName
from serving.settings import GRPC, LONGEST_SOCKET_PATH


def _ip(host: str) -> str:
    ip_address(host)
    return host


IpAddress = Annotated[str, AfterValidator(_ip)]
"""An address and no name: Envoy looks no names up."""

PoolName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]

MAIN_POOL = "engine"
"""The pool of every model that has none of its own."""


def _of_sockets(folder: Path) -> Path:
    if not folder.is_absolute() or len(bytes(folder / GRPC)) > LONGEST_SOCKET_PATH:
        raise ValueError(
            f"a socket's path is absolute and has at most {LONGEST_SOCKET_PATH} bytes, got {folder}/{GRPC}"
        )
    return folder


class Endpoint(Record):
    """One engine worker, by its REST door; its gRPC door is the next port."""

    host: IpAddress
    port: int = Field(ge=1, le=65534)
    sockets: Annotated[Path, AfterValidator(_of_sockets)] | None = Field(
        default=None, description="Folder of this host in which both doors are files too, which are cheaper than ports."
    )

    @property
    def grpc(self) -> "Endpoint":
        """The gRPC door."""
        return Endpoint(host=self.host, port=self.port + 1)


class Pool(Record):
    """Workers that are there for some models alone."""

    name: PoolName
    models: tuple[QualifiedName, ...] = Field(min_length=1)
    workers: tuple[Endpoint, ...] = Field(min_length=1)


class Tls(Record):
    """A certificate chain and its key, in PEM; new ones are taken at once when they are renamed into their place."""

    certificate: Path
    key: Path


class GatewayPlan(Record):
    """One gateway in front of the engine's workers."""

    host: IpAddress = Field(default="127.0.0.1", description="The address that clients reach.")
    port: int = Field(ge=1, le=65535, description="REST and gRPC.")
    admin_port: int = Field(ge=1, le=65535, description="Admin and metrics, always on 127.0.0.1.")
    workers: tuple[Endpoint, ...] = Field(description="Of every model that no pool names.")
    pools: tuple[Pool, ...] = ()
    tls: Tls | None = Field(default=None, description="None: plain HTTP.")
    require_keys: bool = Field(default=False, description="Refuse who sends no key, whatever the tenants' record says.")
    access_log: Path = Field(description="One JSON line a request.")
    max_body_bytes: int = Field(default=64 * 2**20, ge=1, lt=2**32, description="Larger requests are refused, 413.")
    max_header_kib: int = Field(default=32, ge=1, le=8192, description="Larger heads of requests are refused, 431.")
    max_connections: int = Field(default=10_000, ge=1, description="Further ones are closed at once.")
    header_timeout_s: float = Field(default=10.0, gt=0, description="From a request's first byte to its whole head.")
    body_timeout_s: float = Field(default=60.0, gt=0, description="From its head to its last byte.")
    request_timeout_s: float = Field(default=60.0, gt=0, description="From its last byte to its answer.")
    health_interval_s: float = Field(default=1.0, gt=0, description="How often each worker's readiness is asked.")

    @model_validator(mode="after")
    def _some_worker_for_the_rest(self) -> "GatewayPlan":
        if not self.workers:
            raise ValueError(
                "no worker is left for the models that no pool names; take one out of its pool, or add one"
            )
        return self

    @model_validator(mode="after")
    def _each_thing_once(self) -> "GatewayPlan":
        every = [worker for workers in self.by_pool().values() for worker in workers]
        _once("worker", [f"{worker.host}:{worker.port}" for worker in every])
        _once("worker's folder of sockets", [str(worker.sockets) for worker in every if worker.sockets])
        _once("pool", [MAIN_POOL, *(pool.name for pool in self.pools)])
        _once("pool's model", [model for pool in self.pools for model in pool.models])
        own = [("127.0.0.1", self.admin_port), (self.host, self.port)]
        doors = [(door.host, door.port) for worker in every for door in (worker, worker.grpc)]
        _once("address", [f"{host}:{port}" for host, port in (*own, *doors)])
        return self

    def by_pool(self) -> dict[str, tuple[Endpoint, ...]]:
        """Return the workers of each pool, those of the models without one first."""
        return {MAIN_POOL: self.workers, **{pool.name: pool.workers for pool in self.pools}}


def _once(what: str, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each {what} may be named once, got {', '.join(twice)} more often")
