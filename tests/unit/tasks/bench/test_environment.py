"""The fingerprint of machine and software."""

import sys
from importlib.metadata import version

from tasks.bench import environment as module
from tasks.bench.environment import environment, tool_versions


def test_the_fingerprint_names_machine_and_software() -> None:
    found = environment()
    assert found.cpu_model and found.memory_mib > 100
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.libraries["torch"] == version("torch")
    assert found == environment(), "two readings on one machine are the same"


def test_only_flags_that_change_kernels_are_kept() -> None:
    flags = "fpu vme avx avx2 avx512_vnni avx512f avx_vnni amx_tile amx_int8 fma aes lm"
    found = {flag for flag in flags.split() if module._FLAG.match(flag)}
    assert found == {"avx", "avx2", "avx512_vnni", "avx512f", "avx_vnni", "amx_tile", "amx_int8", "fma"}


def test_every_listed_library_is_a_distribution_that_is_installed() -> None:
    assert set(tool_versions()) == set(module.LIBRARIES)
