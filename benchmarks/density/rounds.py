"""Rounds: one load in a process of its own, with what the engine did meanwhile."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.density.engine import Engine
from benchmarks.density.load import LoadJob
from benchmarks.density.popularity import Places, Temperature

CONNECTIONS = 32
_SPARE_SECONDS = 60.0


class Round(NamedTuple):
    """What one load has seen."""

    places: Places
    """The models that were asked, in order."""
    latency_s: npt.NDArray[np.float64]
    seconds: float
    load_cpu_s: float
    engine_cpu_s: float
    loads: int
    failures: list[str]
    temperature: Temperature

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.places) / self.seconds

    def percentile_ms(self, mask: npt.NDArray[np.bool_], at: float) -> float | None:
        """A percentile of the latency of some requests, in milliseconds; None if there are none."""
        chosen = self.latency_s[mask & ~np.isnan(self.latency_s)]
        return 1e3 * float(np.percentile(chosen, at)) if len(chosen) else None

    def p99_ms(self, mask: npt.NDArray[np.bool_]) -> float | None:
        """The 99th percentile of the latency of some requests, in milliseconds; None if there are none."""
        return self.percentile_ms(mask, 99)

    @property
    def engine_cpu_ms(self) -> float:
        """Processor time of the engine for one request, in milliseconds."""
        return 1e3 * self.engine_cpu_s / len(self.places)


class Loads:
    """Runs loads on one engine."""

    def __init__(self, engine: Engine, models: tuple[str, ...], width: int, folder: Path) -> None:
        """Take the engine, the models by place, the floats that each takes, and a folder for jobs and answers."""
        self._engine = engine
        self._models = models
        self._width = width
        self._folder = folder
        self._number = 0
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, places: Places, seconds: float, *, connections: int = CONNECTIONS, rate: float = 0.0) -> "Running":
        """Begin to ask models in an order: as fast as answers come, or at a rate whatever comes."""
        self._number += 1
        base = self._folder / f"load-{self._number}"
        sequence = base.with_suffix(".npy")
        np.save(sequence, places)
        job = LoadJob(
            port=self._engine.port,
            models=self._models,
            width=self._width,
            sequence=str(sequence),
            seconds=seconds,
            connections=connections,
            rate=rate,
        )
        base.with_suffix(".json").write_text(job.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.density.load", f"{base}.json", f"{base}.npz"]
        before = self._engine.resident()["loads"], self._engine.cpu_s()
        return Running(self._engine, subprocess.Popen(command), base, places, before, seconds)

    def run(self, places: Places, seconds: float, *, connections: int = CONNECTIONS, rate: float = 0.0) -> Round:
        """Ask, and wait until all is answered."""
        return self.start(places, seconds, connections=connections, rate=rate).finish()


class Running(NamedTuple):
    """A load that is under way."""

    engine: Engine
    process: "subprocess.Popen[bytes]"
    base: Path
    places: Places
    before: tuple[int, float]
    seconds: float

    def running(self) -> bool:
        """True until the load is over."""
        return self.process.poll() is None

    def finish(self) -> Round:
        """Wait for the end and return what was seen.

        Raises:
            RuntimeError: the load process failed.
        """
        try:
            code = self.process.wait(self.seconds + _SPARE_SECONDS)
        finally:
            self.process.kill()
        if code:
            raise RuntimeError(f"the load of {self.base}.json ended with exit code {code}")
        loads, cpu_s = self.before
        with np.load(f"{self.base}.npz") as found:
            latency_s = found["latency_s"]
            return Round(
                places=self.places[: len(latency_s)],
                latency_s=latency_s,
                seconds=float(found["seconds"]),
                load_cpu_s=float(found["cpu_s"]),
                engine_cpu_s=self.engine.cpu_s() - cpu_s,
                loads=self.engine.resident()["loads"] - loads,
                failures=[str(failure) for failure in found["failures"]],
                temperature=Temperature(np.zeros(len(latency_s), bool), np.zeros(len(latency_s), bool)),
            )
