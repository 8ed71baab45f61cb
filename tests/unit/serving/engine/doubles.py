"""Sessions, runtimes and stores in memory, which tests slow down, break and look into."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from registry.digest import json_digest
from registry.errors import ModelNotFound
from registry.records.model import (
    ArtifactFormat,
    ArtifactRef,
    Datatype,
    PluginConfig,
    ServedVersion,
    Signature,
    TensorSpec,
)
from registry.records.release import CatalogEntry, ServingPolicy, TrafficSplit
from serving.engine import live, loader, meter, residency, room
from serving.runtime import Array, Arrays, Session

MIB = 2**20
WAIT_SECONDS = 30.0
"""A bound for what comes at once, unless the machine stands still."""

BATCHED = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 2)),),
    outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, 2)),),
)
VARYING = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, None)),),
    outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, None)),),
)


class FakeSession(Session):
    """Answers ``y = x * scale``; keeps the shapes it ran, may be held up and may break."""

    def __init__(self, scale: float = 1.0, signature: Signature = BATCHED, resident_bytes: int = MIB) -> None:
        super().__init__(signature, resident_bytes)
        self.scale = scale
        self.shapes: list[tuple[int, ...]] = []
        self.broken = False
        self.closed = False
        self.closed_by = ""
        self.running = threading.Event()
        self.may_run = threading.Event()
        self.may_run.set()

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        assert not self.closed, "ran after it was closed"
        self.running.set()
        assert self.may_run.wait(WAIT_SECONDS)
        assert not self.closed, "closed while it ran"
        self.shapes.append(inputs["x"].shape)
        if self.broken:
            raise ZeroDivisionError("broken on purpose")
        return {spec.name: np.multiply(inputs["x"], np.float32(self.scale)) for spec in self.signature.outputs}

    def warm_up(self) -> None:
        if self.broken:
            raise ZeroDivisionError("broken on purpose")

    def close(self) -> None:
        self.closed = True
        self.closed_by = threading.current_thread().name


def digest_of(name: str) -> str:
    return json_digest(name)


def served(number: int, name: str = "", *, signature: Signature = BATCHED, invariant: bool = True) -> ServedVersion:
    return ServedVersion(
        version=number,
        artifact=ArtifactRef(sha256=digest_of(name or str(number)), format=ArtifactFormat.ONNX, size_bytes=1),
        runtime=PluginConfig(name="fake"),
        signature=signature,
        batch_invariant=invariant,
        max_batch_size=4,
    )


def sized(version: ServedVersion, size_bytes: int) -> ServedVersion:
    """The version with an artifact of this size."""
    return version.model_copy(update={"artifact": version.artifact.model_copy(update={"size_bytes": size_bytes})})


def entry(
    generation: int,
    weights: dict[int, float] | None,
    versions: Iterable[ServedVersion],
    model: str = "m",
    **policy: Any,  # noqa: ANN401 - fields of a ServingPolicy
) -> CatalogEntry:
    return CatalogEntry(
        model=model,
        generation=generation,
        split=TrafficSplit(weights=weights) if weights is not None else None,
        versions=tuple(versions),
        policy=ServingPolicy(**policy),
    )


@dataclass
class FakeWorld:
    """A store and a runtime in one: sessions by the digest of their artifact."""

    sessions: dict[str, FakeSession] = field(default_factory=dict)
    checkouts: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    loaded_by: list[str] = field(default_factory=list)
    """The thread of each load."""
    may_check_out: threading.Event = field(default_factory=threading.Event)
    may_load: threading.Event = field(default_factory=threading.Event)
    work_s: float = 0.0
    """Processor time that a load seems to take."""
    worked_s: float = 0.0
    """That all loads have taken."""
    most_open: int = 0
    """Sessions that were open at the same time."""
    leaked_bytes: int = 0
    """What the process holds beside the sessions that are not closed."""
    kept_bytes: int = 0
    """What the allocator keeps for a thread that has loaded something, until it ends."""
    set_up_bytes: int = 0
    """What the runtime's library takes once."""

    def __post_init__(self) -> None:
        self.may_check_out.set()
        self.may_load.set()

    def add(self, version: ServedVersion, session: FakeSession) -> FakeSession:
        self.sessions[version.artifact.sha256] = session
        return session

    def put(self, folder: Path) -> str:
        raise NotImplementedError

    def checkout(self, digest: str) -> Path:
        self.checkouts.append(digest)
        assert self.may_check_out.wait(WAIT_SECONDS)
        if digest not in self.sessions:
            raise ModelNotFound(f"no artifact {digest}")
        return Path(digest)

    def size_bytes(self, digest: str) -> int:
        return self.sessions[digest].resident_bytes

    def exists(self, digest: str) -> bool:
        return digest in self.sessions

    def delete(self, digest: str) -> None:
        del self.sessions[digest]

    def set_up(self) -> None:
        self.leaked_bytes += self.set_up_bytes

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        del artifact_format, signature
        self.loads.append(folder.name)
        self.loaded_by.append(threading.current_thread().name)
        assert self.may_load.wait(WAIT_SECONDS)
        self.worked_s += self.work_s
        session = self.sessions[folder.name]
        session.closed = False
        self.most_open = max(self.most_open, sum(not self.sessions[digest].closed for digest in set(self.loads)))
        return session

    def build_runtime(self, config: PluginConfig) -> "FakeWorld":
        assert config.name == "fake"
        return self

    def resident_set_bytes(self) -> int:
        return self.leaked_bytes + sum(
            self.sessions[digest].resident_bytes for digest in set(self.loads) if not self.sessions[digest].closed
        )

    def allocated_bytes(self) -> int:
        measured = threading.current_thread().name.startswith("load-measured")
        return self.resident_set_bytes() + measured * self.kept_bytes

    def install(self, monkeypatch: object) -> "FakeWorld":
        monkeypatch.setattr(loader, "build_runtime", self.build_runtime)  # type: ignore[attr-defined]
        monkeypatch.setattr(residency, "resident_set_bytes", self.resident_set_bytes)  # type: ignore[attr-defined]
        monkeypatch.setattr(meter, "resident_set_bytes", self.resident_set_bytes)  # type: ignore[attr-defined]
        monkeypatch.setattr(meter, "start_peak", self.resident_set_bytes)  # type: ignore[attr-defined]
        monkeypatch.setattr(meter, "peak_bytes", self.resident_set_bytes)  # type: ignore[attr-defined]
        monkeypatch.setattr(meter, "allocated_bytes", self.allocated_bytes)  # type: ignore[attr-defined]
        monkeypatch.setattr(meter, "thread_time", lambda: self.worked_s)  # type: ignore[attr-defined]
        monkeypatch.setattr(residency, "slack_bytes", lambda _bound: 0)  # type: ignore[attr-defined]
        # Nobody waits in vain for room, and nothing that failed is tried again by itself, however busy the machine is.
        monkeypatch.setattr(room, "WAIT_SECONDS", 60.0)  # type: ignore[attr-defined]
        for module in (live, residency):
            monkeypatch.setattr(module, "RETRY_SECONDS", 3600.0)  # type: ignore[attr-defined]
        return self


async def until(condition: Callable[[], bool]) -> None:
    """Wait, within a bound, until something becomes true."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(poll(), WAIT_SECONDS)


def run(work: Awaitable[None]) -> None:
    """Run one asynchronous test within a bound."""

    async def bounded() -> None:
        await asyncio.wait_for(work, 3 * WAIT_SECONDS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
