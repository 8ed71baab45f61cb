"""A whole stack in a folder of its own on free ports, driven as a user drives it: by the command line."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.integration.processes import free_pair, free_ports

BURNISH = Path(sys.executable).with_name("burnish")
COMMAND_TIMEOUT_S = 420.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401
        """What the command wrote, as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class StackUnderTest:
    """The environment that every command of one stack gets."""

    home: Path
    environment: dict[str, str]

    def run(self, *arguments: str, cwd: Path | None = None, timeout_s: float = COMMAND_TIMEOUT_S) -> Ended:
        """Run one ``burnish`` command to its end."""
        ended = subprocess.run(
            [str(BURNISH), *arguments],
            env=self.environment,
            cwd=cwd or self.home.parent,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def part(self, name: str) -> dict[str, Any]:
        """One part as ``burnish status --json`` shows it."""
        parts: list[dict[str, Any]] = self.run("status", "--json").json["parts"]
        return next(part for part in parts if part["name"] == name)

    def processes(self) -> set[int]:
        """The ids of all its processes."""
        marker = f"BURNISH_HOME={self.home}".encode()
        return {pid for pid in psutil.pids() if marker in _environment_of(pid)}

    def url(self, variable: str, path: str = "") -> str:
        """The address behind a port variable."""
        return f"http://127.0.0.1:{self.environment[variable]}{path}"


def new_stack(home: Path, **settings: str) -> StackUnderTest:
    """Choose free ports for a stack; nothing is started yet."""
    names = ("GATEWAY", "GATEWAY_ADMIN", "CONTROL", "BENTO", "PREFECT", "MLFLOW")
    ports = {f"BURNISH_{name}_PORT": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    environment = (
        dict(os.environ) | ports | {"BURNISH_DOOR_PORT": str(free_pair()), "BURNISH_HOME": str(home)} | settings
    )
    return StackUnderTest(home, environment)


def _environment_of(pid: int) -> bytes:
    """The environment that a process was started with; empty if it is gone or not ours."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
