"""The whole stack, started, asked and stopped as a person does it, from a folder that holds a `tasks/` of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from burnish.stack import lifecycle
from burnish.stack.processes import leftovers
from flows.settings import STACK_FILE, StackSettings, stack_settings
from tests.integration.processes import free_pair, free_ports, wait_for

PARTS = {"prefect", "mlflow", "control", "runner", "engine", "gateway"}
HEAL_S = 120.0


@dataclass
class Stack:
    home: Path
    settings: StackSettings
    folder: Path

    def burnish(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [Path(sys.executable).with_name("burnish"), *arguments, "--home", str(self.home)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def parts(self) -> dict[str, dict[str, Any]]:
        told = json.loads(self.burnish("status", "--json").stdout)
        return {part["name"]: part for part in told["parts"]}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("own")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "__init__.py").write_text("raise ImportError('this is not the tasks package of Burnish')")
    names = [name for name in StackSettings.model_fields if name.endswith("_port") and name != "door_port"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    (home / STACK_FILE).write_text(json.dumps({**ports, "door_port": free_pair(), "monitor_cron": "0 0 1 1 *"}))
    settings = stack_settings(home)
    found = Stack(home, settings, folder)
    try:
        started = found.burnish("up")
        assert started.returncode == 0, started.stderr
        assert all(f"  {name}" in started.stdout for name in PARTS)
        yield found
    finally:
        lifecycle.stop(home)


def test_every_part_is_healthy_and_the_way_through_the_gateway_is_open(stack: Stack) -> None:
    told = stack.burnish("status", "--json")
    assert told.returncode == 0, told.stdout
    assert json.loads(told.stdout)["healthy"]
    assert set(stack.parts()) == PARTS
    with httpx.Client(trust_env=False, timeout=20) as client:
        assert client.get(f"{stack.settings.gateway_url}/v2/health/ready").status_code == 200
        assert client.get(f"{stack.settings.gateway_url}/v2/models/none").status_code == 404


def test_the_stacks_memory_is_in_its_home_and_every_part_has_a_log(stack: Stack) -> None:
    logs = {path.name for path in (stack.home / "logs").iterdir()}
    assert {f"{name}.log" for name in PARTS} <= logs
    assert (stack.home / "prefect" / "prefect.db").exists()
    assert (stack.home / "mlflow" / "mlflow.db").exists()
    assert not list(stack.folder.rglob("*.pyc"))
    assert {path.name for path in stack.folder.iterdir()} == {"tasks"}


def test_nothing_listens_beyond_loopback(stack: Stack) -> None:
    sockets = [
        connection
        for process in leftovers(stack.home)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert sockets
    assert {connection.laddr.ip for connection in sockets} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_killed_parts_come_back(stack: Stack) -> None:
    before = stack.parts()
    for name in ("engine", "gateway", "control"):
        os.kill(before[name]["pid"], signal.SIGKILL)

    def back() -> bool:
        now = stack.parts()
        fresh = all(now[name]["pid"] != before[name]["pid"] for name in ("engine", "gateway", "control"))
        return fresh and all(part["healthy"] for part in now.values())

    wait_for(back, "the killed parts to be healthy again", HEAL_S)
    restarts = {name: part["restarts"] for name, part in stack.parts().items()}
    assert restarts == {name: int(name in ("engine", "gateway", "control")) for name in PARTS}


def test_down_leaves_nothing_and_says_the_same_again(stack: Stack) -> None:
    supervised = leftovers(stack.home)
    assert len(supervised) > len(PARTS)
    everything = {process for member in supervised for process in [member, *member.children(recursive=True)]}
    stopped = stack.burnish("down")
    assert stopped.returncode == 0, stopped.stderr
    assert not [process for process in everything if process.is_running()]
    assert not leftovers(stack.home)
    assert "no stack was running" in stack.burnish("down").stdout
    assert stack.burnish("status").returncode == 3
