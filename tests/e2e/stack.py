"""A whole stack in a folder of its own on free ports, driven as a user drives it: by the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from flows.settings import STACK_FILE, StackSettings
from monitoring.request_log import Query, read_window
from registry.errors import InputError
from tests.integration.processes import free_pair, free_ports, wait_for

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
    """The environment that every command of one stack gets, and the ports that stand in its home folder."""

    home: Path
    environment: dict[str, str]
    ports: dict[str, int]

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
        return self.parts()[name]

    def parts(self) -> dict[str, dict[str, Any]]:
        """Every part by its name."""
        return {part["name"]: part for part in self.run("status", "--json").json["parts"]}

    def processes(self) -> set[int]:
        """The ids of all its processes."""
        marker = f"BURNISH_HOME={self.home}".encode()
        return {pid for pid in psutil.pids() if marker in _environment_of(pid)}

    def await_captured(self, model: str, request_ids: Collection[str]) -> None:
        """Wait until these requests of a model, by its qualified name, are on disk."""
        wanted = set(request_ids)

        def on_disk() -> bool:
            try:
                window = read_window(self.home / "capture", model, Query(outputs_only=True))
            except InputError:  # nothing is there yet
                return False
            return wanted <= set(window.request_ids)

        wait_for(on_disk, f"{len(wanted)} requests of {model} to be captured", 60)

    def url(self, port: str, path: str = "") -> str:
        """The address behind a port, by the name of its setting."""
        return f"http://127.0.0.1:{self.ports[port]}{path}"


def new_stack(home: Path, **settings: str) -> StackUnderTest:
    """Choose free ports for a stack and write them into its home folder; nothing is started yet.

    Commands run in a folder that holds a package of the same name as one of Burnish's own.
    """
    names = [name for name in StackSettings.model_fields if name.endswith("_port") and name != "door_port"]
    ports = dict(zip(names, free_ports(len(names)), strict=True)) | {"door_port": free_pair()}
    home.mkdir()
    (home / STACK_FILE).write_text(json.dumps(ports))
    foreign = home.parent / "tasks"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise ImportError('this is not the tasks package of Burnish')")
    return StackUnderTest(home, dict(os.environ) | {"BURNISH_HOME": str(home)} | settings, ports)


def _environment_of(pid: int) -> bytes:
    """The environment that a process was started with; empty if it is gone or not ours."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
