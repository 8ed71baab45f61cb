"""What a child process is given of this process's environment: paths and hardware, never credentials."""

import os
from pathlib import Path

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "CC", "CXX", "CUDA_HOME", "CUDA_VISIBLE_DEVICES")


def child_environment(home: Path, threads: int) -> dict[str, str]:
    """Return the whole environment of a child process.

    Args:
        home: the child's home and temporary folder.
        threads: what OpenMP may use; a session's own knob overrides it.
    """
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if import_path := _absolute(os.environ.get("PYTHONPATH", "")):
        kept["PYTHONPATH"] = import_path
    return kept | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "OMP_NUM_THREADS": str(threads),
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _absolute(search_path: str) -> str:
    """A search path for a process in another folder; an empty entry means the folder that the process stands in."""
    return os.pathsep.join(str(Path(entry).absolute()) for entry in search_path.split(os.pathsep) if entry)
