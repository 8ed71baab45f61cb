"""The fingerprint of the machine and of the software that figures hold for."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from registry.records.benchmark import Environment
from tasks.bench.energy import energy_source

LIBRARIES = (
    "burnish",
    "nncf",
    "numpy",
    "nvidia-modelopt",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "torch",
    "torch-pruning",
)
"""The distributions that build and run candidates."""

_FLAG = re.compile(r"^(avx\d*|avx512\w*|avx_\w+|avx10\w*|amx_\w+|fma|f16c|sse4_2|asimd\w*|sve\w*|bf16|i8mm)$")
"""Flags of x86 and Arm that decide which kernels a library picks."""


def environment() -> Environment:
    """Describe this machine and the installed libraries; imports none of them."""
    processor = _processor()
    return Environment(
        cpu_model=processor.get("model name") or platform.processor() or platform.machine(),
        cpu_count=os.cpu_count() or 1,
        cpu_flags=cpu_flags(),
        memory_mib=psutil.virtual_memory().total // 2**20,
        gpu=_gpu(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=tool_versions(),
        energy=energy_source(),
    )


def cpu_flags() -> tuple[str, ...]:
    """Return this processor's flags that decide which kernels a library picks, sorted."""
    processor = _processor()
    flags = processor.get("flags") or processor.get("Features") or ""
    return tuple(sorted(filter(_FLAG.match, set(flags.split()))))


def tool_versions() -> dict[str, str]:
    """Return the versions of the installed libraries that build and run candidates, by distribution name."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> dict[str, str]:
    """The first processor's entries in Linux's table; empty on systems without it."""
    table = Path("/proc/cpuinfo")
    if not table.is_file():
        return {}
    first = table.read_text(encoding="utf-8").split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _gpu() -> str | None:
    """The model of the first NVIDIA device, as its kernel driver tells it."""
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"^Model:\s*(.+)$", information.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match.group(1)
    return None
