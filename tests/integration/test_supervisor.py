"""The supervisor with parts that are quick to start: two small servers, one of which starts a process of its own."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from burnish.stack import lifecycle
from burnish.stack.plan import Part, Port, Probe, StackPlan, read_state
from burnish.stack.processes import find, leftovers
from burnish.stack.status import PartStatus, read_status
from registry.errors import BurnishError, InputError
from tests.integration.processes import free_ports, wait_for

# Serves the folder it runs in; told to, starts a child in a session of its own first, as servers with workers do.
SERVER = """
import http.server, subprocess, sys
if sys.argv[2:] == ["parent"]:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("listening on", sys.argv[1], flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
NO_CONTROL = "http://127.0.0.1:9"


def server(name: str, port: int, *arguments: str) -> Part:
    return Part(
        name=name,
        command=(sys.executable, "-P", "-c", SERVER, str(port), *arguments),
        ports=(Port(host="127.0.0.1", number=port, purpose=name, variable=f"BURNISH_{name.upper()}_PORT"),),
        probes=(Probe(url=f"http://127.0.0.1:{port}/"),),
        url=f"http://127.0.0.1:{port}",
        stop_seconds=5,
    )


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[StackPlan]:
    first, second = free_ports(2)
    plan = StackPlan(home=tmp_path / "home", parts=(server("plain", first), server("family", second, "parent")))
    try:
        yield plan
    finally:
        lifecycle.stop(plan.home)


def part_of(plan: StackPlan, name: str) -> PartStatus:
    return next(part for part in read_status(plan.home, NO_CONTROL).parts if part.name == name)


def started(plan: StackPlan) -> list[str]:
    ready: list[str] = []
    lifecycle.check(plan)
    with lifecycle.starting(plan):
        lifecycle.start(plan, lambda part, _: ready.append(part.name), wait_s=60)
    return ready


def test_all_parts_run_and_stopping_leaves_nothing(plan: StackPlan) -> None:
    assert sorted(started(plan)) == ["family", "plain"]
    status = read_status(plan.home, NO_CONTROL)
    assert status.healthy
    assert [part.restarts for part in status.parts] == [0, 0]
    assert "listening on" in plan.log_file("plain").read_text()
    running = leftovers(plan.home)
    assert len(running) == 4  # the supervisor, two parts, the child of one
    assert lifecycle.stop(plan.home)
    assert not [process for process in running if process.is_running()]
    assert not leftovers(plan.home)
    assert not lifecycle.stop(plan.home)
    assert read_status(plan.home, NO_CONTROL).notes == ("the stack is not running",)


def test_a_killed_part_comes_back_without_what_it_had_started(plan: StackPlan) -> None:
    started(plan)
    before = part_of(plan, "family").pid
    assert before is not None
    (child,) = psutil.Process(before).children()
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        now = part_of(plan, "family")
        return now.healthy and now.pid != before and now.restarts == 1

    wait_for(back, "the killed part to be healthy again")
    wait_for(lambda: not child.is_running(), "its old child to be gone")
    assert part_of(plan, "plain").restarts == 0


def test_starting_twice_is_refused_and_says_how_to_stop(plan: StackPlan) -> None:
    started(plan)
    with pytest.raises(InputError, match=r"already running .* `burnish down`"):
        started(plan)
    assert read_status(plan.home, NO_CONTROL).healthy


def test_of_two_who_start_it_at_once_one_is_refused_and_stops_nothing(
    plan: StackPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, check = threading.Barrier(2), lifecycle.check

    def checked(plan: StackPlan) -> None:
        check(plan)
        both.wait(60)

    monkeypatch.setattr(lifecycle, "check", checked)
    with ThreadPoolExecutor(2) as pool:
        ends = [one.exception(120) for one in [pool.submit(started, plan) for _ in range(2)]]
    (refusal,) = filter(None, ends)
    assert "already running" in str(refusal)
    assert read_status(plan.home, NO_CONTROL).healthy


def test_while_it_is_being_started_nobody_else_may(plan: StackPlan) -> None:
    with lifecycle.starting(plan), pytest.raises(InputError, match="being started by another command"):
        lifecycle.check(plan)
    lifecycle.check(plan)


def test_a_taken_port_is_named_with_its_owner_and_its_variable_before_anything_starts(plan: StackPlan) -> None:
    port = plan.parts[1].ports[0].number
    told = pytest.raises(InputError, match=rf"port {port} .* the family needs it; set BURNISH_FAMILY_PORT")
    with socket.create_server(("127.0.0.1", port)), told:
        started(plan)
    assert not plan.run_folder.exists()


def test_a_part_that_dies_at_once_ends_the_start_with_its_last_words(plan: StackPlan) -> None:
    broken = Part(
        name="broken",
        command=(sys.executable, "-c", "raise SystemExit('no such database')"),
        probes=(Probe(url=NO_CONTROL),),
    )
    with pytest.raises(BurnishError, match=r"(?s)broken died 3 times before it was ready.*no such database"):
        started(plan.model_copy(update={"parts": (*plan.parts, broken)}))
    assert not leftovers(plan.home)


def test_a_part_that_never_answers_ends_the_start_after_the_bound(plan: StackPlan) -> None:
    silent = Part(
        name="silent", command=(sys.executable, "-c", "import time; time.sleep(99)"), probes=(Probe(url=NO_CONTROL),)
    )
    with pytest.raises(BurnishError, match="silent was not ready after 2 s"):
        lifecycle.start(plan.model_copy(update={"parts": (silent,)}), lambda *_: None, wait_s=2)
    assert not leftovers(plan.home)


def test_a_part_that_ignores_sigterm_is_killed_after_its_bound(plan: StackPlan) -> None:
    deaf = server("deaf", free_ports(1)[0])
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
    deaf = deaf.model_copy(update={"command": (*deaf.command[:3], ignoring, *deaf.command[4:]), "stop_seconds": 1.0})
    started(plan.model_copy(update={"parts": (*plan.parts, deaf)}))
    assert lifecycle.stop(plan.home)
    assert not leftovers(plan.home)


def test_it_can_be_stopped_while_parts_keep_dying(plan: StackPlan) -> None:
    dying = tuple(Part(name=f"dying{number}", command=("/bin/false",), probes=()) for number in range(20))
    started(plan.model_copy(update={"parts": (*plan.parts, *dying)}))
    state = read_state(plan.home)
    assert state is not None
    supervisor = psutil.Process(state.supervisor.pid)
    supervisor.terminate()
    supervisor.wait(60)
    assert not leftovers(plan.home)


def test_a_killed_supervisor_leaves_parts_that_down_finds(plan: StackPlan) -> None:
    started(plan)
    state = read_state(plan.home)
    assert state is not None
    os.kill(state.supervisor.pid, signal.SIGKILL)
    wait_for(lambda: find(state.supervisor) is None, "the supervisor to be gone")
    assert not read_status(plan.home, NO_CONTROL).healthy
    with pytest.raises(InputError, match="still run; stop them with `burnish down`"):
        started(plan)
    assert lifecycle.stop(plan.home)
    assert not leftovers(plan.home)
    assert sorted(started(plan)) == ["family", "plain"]


def test_two_starts_at_the_same_time_give_one_stack(plan: StackPlan) -> None:
    started(plan)
    (plan.run_folder / "state.json").rename(plan.run_folder / "hidden")
    other = lifecycle._launch(plan)
    assert other.wait(60) == 4
    (plan.run_folder / "hidden").rename(plan.run_folder / "state.json")
    assert httpx.get(plan.parts[0].url, trust_env=False).is_success
