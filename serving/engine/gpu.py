"""GPUs: what this process holds on each device, and how much its models may, through NVML.

Written to the documented interface of ``nvidia-ml-py`` and tested against a double of it; it has not run on a GPU.

Source: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html.
"""

import os
from typing import Any

import pynvml


class Gpus:
    """The devices of this machine, in NVML's order."""

    def __init__(self, handles: list[Any], bounds: tuple[int, ...]) -> None:
        """Keep the devices' handles, and the bytes that models may hold on each."""
        self.bounds = bounds
        self._handles = handles

    @classmethod
    def found(cls, share: float) -> "Gpus | None":
        """Return this machine's GPUs, a share of the memory of each for models; None if it has none or no driver."""
        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            bounds = tuple(int(share * pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles)
        except pynvml.NVMLError:
            return None
        return cls(handles, bounds) if handles else None

    def used_bytes(self) -> tuple[int, ...]:
        """Return what this process holds on each device; 0 where the driver does not tell."""
        return tuple(map(_used_by_this_process, self._handles))


def _used_by_this_process(handle: Any) -> int:  # noqa: ANN401 - NVML's handles are opaque
    mine = os.getpid()
    return sum(
        process.usedGpuMemory or 0
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        if process.pid == mine
    )
