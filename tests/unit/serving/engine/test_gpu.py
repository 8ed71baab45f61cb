"""GPUs, against a double of NVML's documented interface: no GPU is here, and none was ever used."""

import os
from types import SimpleNamespace

import pynvml
import pytest

from serving.engine.budget import Budget
from serving.engine.gpu import Gpus
from serving.engine.meter import Meter
from tests.unit.serving.engine.doubles import FakeSession, served

GIB = 2**30


class FakeNvml:
    """Two devices; processes with the bytes that each holds."""

    def __init__(self) -> None:
        self.totals = [8 * GIB, 16 * GIB]
        self.processes: list[list[tuple[int, int | None]]] = [[], []]

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "FakeNvml":
        def processes(handle: int) -> list[SimpleNamespace]:
            return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes[handle]]

        for name, value in {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetCount": lambda: len(self.totals),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=self.totals[handle]),
            "nvmlDeviceGetComputeRunningProcesses": processes,
        }.items():
            monkeypatch.setattr(pynvml, name, value)
        return self


def test_the_bound_is_a_share_of_each_device_and_only_ones_own_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml().install(monkeypatch)
    gpus = Gpus.found(0.5)
    assert gpus is not None
    assert gpus.bounds == (4 * GIB, 8 * GIB)
    assert gpus.used_bytes() == (0, 0)
    nvml.processes = [[(os.getpid(), GIB), (1, 5 * GIB)], [(os.getpid(), None)]]
    assert gpus.used_bytes() == (GIB, 0)


def test_no_driver_and_no_device_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml().install(monkeypatch)
    nvml.totals = []
    assert Gpus.found(0.5) is None

    def no_driver() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert Gpus.found(0.5) is None


def test_a_session_is_charged_for_what_it_takes_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml().install(monkeypatch)
    gpus = Gpus.found(0.5)
    assert gpus is not None

    def load() -> FakeSession:
        nvml.processes = [[], [(os.getpid(), 3 * GIB)]]
        return FakeSession()

    _, cost = Meter(Budget((GIB, 64, *gpus.bounds), lambda: 0, 0), gpus).measured(served(1), load)
    assert cost.held[2:] == (0, 3 * GIB)
