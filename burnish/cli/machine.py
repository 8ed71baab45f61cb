"""What this machine has that decides which candidates can run, and what would add more."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from registry.records.optimization import OptimizationConfig
from tasks.bench.energy import energy_source, find_meter
from tasks.bench.environment import environment
from tasks.optimizer.confinement import landlock_unavailable

_GIB = 2**30
_LEAST_MEMORY_GIB = 2
_LEAST_DISK_GIB = 5
_FLAGS = {
    "avx2": ("avx2", "vector instructions; without them every candidate is slow"),
    "int8": ("avx512_vnni|avx_vnni|avx_vnni_int8|i8mm", "int8 dot products; without them int8 candidates gain little"),
    "bf16": ("avx512_bf16|bf16", "bf16 arithmetic; without it bf16 candidates are left out"),
    "amx": ("amx_\\w+", "int8 and bf16 matrix units; without them large layers are slower"),
}


@dataclass(frozen=True)
class Check:
    """What was found of one part; without a required one the stack does not run."""

    area: str
    name: str
    works: bool
    required: bool
    detail: str = ""


def machine_checks(home: Path) -> Iterator[Check]:
    """Look at processor, GPU, compiler, confinement, energy, memory and disk; none of them is required."""
    machine = environment()
    for name, (pattern, about) in _FLAGS.items():
        found = [flag for flag in machine.cpu_flags if re.fullmatch(pattern, flag)]
        yield Check("processor", name, bool(found), False, ", ".join(found) or f"{machine.cpu_model} has no {about}")
    yield Check("gpu", "NVIDIA", machine.gpu is not None, False, machine.gpu or _NO_GPU)
    works = shutil.which("g++") is not None
    repair = "" if works else "AOTInductor candidates need a C++ compiler; run: apt-get install g++"
    yield Check("compiler", "g++", works, False, repair)
    reason = landlock_unavailable()
    yield Check("confinement", "Landlock", reason is None, False, reason or "candidates write in their folders only")
    yield _energy()
    yield _memory()
    yield _disk(home)


_NO_GPU = (
    "none: the pass compile_torch_tensorrt and the runtimes tensorrt and torch_tensorrt are skipped; on a machine with "
    "one, run: pip install 'burnish[nvidia]'"
)


def _energy() -> Check:
    return Check("energy", "counter", not isinstance(find_meter(), str), False, energy_source())


def _memory() -> Check:
    free = psutil.virtual_memory().available / _GIB
    allowed = OptimizationConfig().candidate_memory_mib / 1024
    detail = f"{free:.1f} GiB free; a candidate may use {allowed:g} (candidate_memory_mib in the configuration)"
    return Check("memory", "free", free >= _LEAST_MEMORY_GIB, False, detail)


def _disk(home: Path) -> Check:
    folder = next(place for place in (home, *home.absolute().parents) if place.exists())
    free = shutil.disk_usage(folder).free / _GIB
    detail = f"{free:.1f} GiB free at {home}"
    if free < _LEAST_DISK_GIB:
        detail += "; free some, or set BURNISH_HOME"
    return Check("disk", "free", free >= _LEAST_DISK_GIB, False, detail)
