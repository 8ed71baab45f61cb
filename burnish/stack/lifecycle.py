"""Starts a stack and waits until it is well; stops a stack and makes sure that nothing of it is left."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from burnish.stack.health import Health
from burnish.stack.log_file import last_lines
from burnish.stack.plan import (
    PLAN_FILE,
    STARTING_FILE,
    STATE_FILE,
    Part,
    ProcessId,
    StackPlan,
    SupervisorState,
    read_plan,
    read_state,
    run_folder,
    write_record,
)
from burnish.stack.ports import check_ports
from burnish.stack.processes import SUPERVISOR_MODULE, end, find, leftovers, tree
from registry.errors import BurnishError, InputError, TransientError
from registry.file_lock import file_lock

START_WAIT_S = 180.0
_STARTS_ALLOWED = 3
_POLL_S = 0.25
_STOP_SPARE_S = 20.0

OnReady = Callable[[Part, float], None]


def check(plan: StackPlan) -> None:
    """Check that a stack can be started, before anything is written.

    Raises:
        InputError: it runs already, is being started, or a port is taken.
    """
    if _is_starting(plan.home):
        raise InputError(f"the stack in {plan.home} is being started by another command; wait for it")
    _check_free(plan)


@contextmanager
def starting(plan: StackPlan) -> Iterator[None]:
    """Be the only one who starts a stack in this home folder, which can be started.

    Raises:
        InputError: it runs already, such as one that another has just started, or a port is taken.
        TransientError: another command starts it for too long.
    """
    with file_lock(run_folder(plan.home) / STARTING_FILE, wait_s=START_WAIT_S):
        _check_free(plan)
        yield


def _is_starting(home: Path) -> bool:
    lock = run_folder(home) / STARTING_FILE
    if not lock.exists():
        return False
    try:
        with file_lock(lock, wait_s=0):
            return False
    except TransientError:
        return True


def _check_free(plan: StackPlan) -> None:
    state = read_state(plan.home)
    if state and find(state.supervisor):
        raise InputError(
            f"the stack in {plan.home} is already running (supervisor {state.supervisor.pid}); "
            "stop it with `burnish down`, or choose another folder with --home"
        )
    if stray := leftovers(plan.home):
        raise InputError(
            f"{len(stray)} processes of an earlier stack in {plan.home} still run; stop them with `burnish down`"
        )
    check_ports(plan.parts)


def start(plan: StackPlan, on_ready: OnReady, wait_s: float = START_WAIT_S) -> None:
    """Start every part of a plan (within ``starting``) and wait until all are ready; on any failure stop them again.

    Args:
        plan: what to run.
        on_ready: told of each part that has become ready, with the seconds that it took.
        wait_s: how long all parts together may take.

    Raises:
        BurnishError: a part did not become ready; the message holds the end of its log.
    """
    plan.run_folder.mkdir(parents=True, exist_ok=True)
    plan.log_folder.mkdir(parents=True, exist_ok=True)
    write_record(plan.run_folder / PLAN_FILE, plan)
    with ExitStack() as undo:  # also when a person interrupts: a stack that is half up helps nobody
        undo.callback(stop, plan.home)
        _await_ready(plan, _launch(plan), on_ready, wait_s)
        undo.pop_all()


def stop(home: Path) -> bool:
    """Stop the stack of a home folder; False if nothing of it ran.

    Raises:
        BurnishError: a process could not be ended.
    """
    plan, state = read_plan(home), read_state(home)
    supervisor = find(state.supervisor) if state else None
    seen = tree(supervisor) if supervisor else []
    if supervisor is not None:
        bound = max(part.stop_seconds for part in plan.parts) if plan else 0.0
        supervisor.terminate()
        psutil.wait_procs([supervisor], timeout=bound + _STOP_SPARE_S)
    ran = bool(seen)
    _end(seen)
    while stray := leftovers(home):  # again, since a supervisor that was not known may have started one more
        ran = True
        _end(stray)
    (run_folder(home) / STATE_FILE).unlink(missing_ok=True)
    return ran


def _end(processes: list[psutil.Process]) -> None:
    if left := end(processes):
        pids = ", ".join(str(process.pid) for process in left)
        raise BurnishError(f"these processes of the stack could not be ended: {pids}; end them by hand")


def _launch(plan: StackPlan) -> "subprocess.Popen[bytes]":
    with plan.log_file("supervisor").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", SUPERVISOR_MODULE, str(plan.home)],
            cwd=plan.home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _await_ready(plan: StackPlan, supervisor: "subprocess.Popen[bytes]", on_ready: OnReady, wait_s: float) -> None:
    begun = time.monotonic()
    waiting = list(plan.parts)
    with Health() as health:
        while waiting:
            time.sleep(_POLL_S)
            if supervisor.poll() is not None:
                raise _failure(plan, "supervisor", f"ended with exit code {supervisor.returncode}")
            state = _state_of(plan, supervisor)
            seconds = time.monotonic() - begun
            ready = health.ready(waiting, _starts(state))
            for part in [part for part in waiting if ready[part.name]]:
                waiting.remove(part)
                on_ready(part, seconds)
            _give_up_on(plan, waiting, state)
            if waiting and seconds > wait_s:
                names = ", ".join(part.name for part in waiting)
                raise _failure(plan, waiting[0].name, f"was not ready after {wait_s:.0f} s (still waiting: {names})")


def _state_of(plan: StackPlan, supervisor: "subprocess.Popen[bytes]") -> SupervisorState:
    """The state of this very supervisor; one that an earlier run has left does not count."""
    state = read_state(plan.home)
    if state is None or state.supervisor.pid != supervisor.pid:
        return SupervisorState(supervisor=ProcessId(pid=supervisor.pid, started=0))
    return state


def _starts(state: SupervisorState) -> dict[str, float]:
    return {name: part.process.started for name, part in state.parts.items()}


def _give_up_on(plan: StackPlan, waiting: list[Part], state: SupervisorState) -> None:
    for part in waiting:
        known = state.parts.get(part.name)
        if known is not None and known.starts > _STARTS_ALLOWED:
            raise _failure(plan, part.name, f"died {known.starts - 1} times before it was ready")


def _failure(plan: StackPlan, part: str, what: str) -> BurnishError:
    log = plan.log_file(part)
    return BurnishError(f"{part} {what}; the end of {log}:\n{last_lines(log)}")
