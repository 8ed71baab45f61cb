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
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _absolute(search_path: str) -> str:
    """A search path for a process in another folder; an empty entry means the folder that the process stands in."""
    return os.pathsep.join(str(Path(entry).absolute()) for entry in search_path.split(os.pathsep) if entry)


def environment_names() -> frozenset[str]:
    """Return the names of this process's environment variables."""
    return frozenset(os.environ)


def replace_environment(names: frozenset[str], environment: dict[str, str], home: tuple[str, str]) -> None:
    """Take variables out of this process's environment and put others in; what stays moves from a home to another."""
    for name in names:
        os.environ.pop(name, None)
    old, new = home
    os.environ.update({name: value.replace(old, new) for name, value in os.environ.items() if old in value})
    os.environ.update(environment)


def decline_telemetry(home: Path) -> None:
    """Tell OpenVINO in a child's home that it may not report its use, which it does unless told."""
    answer = home / "intel" / "openvino_telemetry"
    answer.parent.mkdir(parents=True, exist_ok=True)
    answer.write_text("0", encoding="ascii")
