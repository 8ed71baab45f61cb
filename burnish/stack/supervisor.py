"""The supervisor process: runs the parts of a plan, starts them again when they die, stops them all on SIGTERM.

Start it with ``python -P -m burnish.stack.supervisor HOME``. It is the library circus with three additions: it adopts
what a part that died has left behind and ends it before the part starts again; it writes what it runs to a file; and it
holds a lock as long as it lives. Its control sockets are in-process, so nobody else can reach them.
"""

import ctypes
import fcntl
import logging
import shlex
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import IO

import psutil
from circus.arbiter import Arbiter
from circus.exc import ConflictError
from circus.watcher import Watcher

from burnish.stack.log_file import logged, turn_over
from burnish.stack.plan import (
    LOCK_FILE,
    STATE_FILE,
    Part,
    PartState,
    StackPlan,
    SupervisorState,
    read_plan,
    write_record,
)
from burnish.stack.processes import HOME_VARIABLE, PART_VARIABLE, end, identify, orphans, tree

CHECK_SECONDS = 0.5
ALREADY_RUNS = 4
_PR_SET_CHILD_SUBREAPER = 36
_CONFLICT_PAUSE_S = 0.05

log = logging.getLogger("burnish.stack")


class Supervisor:
    """Runs one plan until it is told to stop."""

    def __init__(self, plan: StackPlan) -> None:
        """Build a watcher for each part; nothing is started yet."""
        self._plan = plan
        self._self = psutil.Process()
        self._starts: Counter[str] = Counter()
        self._state = SupervisorState(supervisor=identify(self._self))
        self._watchers = [self._watcher(part) for part in plan.parts]
        self._arbiter = Arbiter(
            self._watchers,
            endpoint="inproc://control",
            pubsub_endpoint="inproc://events",
            check_delay=CHECK_SECONDS,
            proc_name="burnish",
        )

    def run(self) -> None:
        """Start every part; return once all are stopped and nothing of them is left."""
        self._write_state()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._arbiter.loop.add_callback_from_signal(self._stop))
        try:
            self._arbiter.start()
        finally:
            left = end(tree(self._self)[1:])
            if left:
                log.error("these processes could not be ended: %s", left)
            (self._plan.run_folder / STATE_FILE).unlink(missing_ok=True)

    def _stop(self) -> None:
        """Stop all parts; circus refuses while it is starting one again, and then it is asked a moment later."""
        try:
            self._arbiter.stop()
        except ConflictError:
            self._arbiter.loop.call_later(_CONFLICT_PAUSE_S, self._stop)

    def _watcher(self, part: Part) -> Watcher:
        program, *arguments = logged(part.command, self._plan.log_file(part.name))
        marks = {PART_VARIABLE: part.name, HOME_VARIABLE: str(self._plan.home)}
        return Watcher(
            part.name,
            shlex.quote(program),
            args=arguments,
            env={**part.environment, **marks},
            copy_env=True,
            working_dir=str(self._plan.home),
            graceful_timeout=part.stop_seconds,
            hooks={
                "before_spawn": (self._before_spawn, False),
                "after_spawn": (self._after_spawn, False),
                "after_stop": (self._after_stop, True),
            },
        )

    def _before_spawn(self, watcher: Watcher, **_: object) -> bool:
        self._end_orphans()
        turn_over(self._plan.log_file(str(watcher.name)))
        return True

    def _after_stop(self, **_: object) -> None:
        self._end_orphans()

    def _after_spawn(self, watcher: Watcher, pid: int, **_: object) -> bool:
        name = str(watcher.name)
        self._starts[name] += 1
        started = PartState(process=identify(psutil.Process(pid)), starts=self._starts[name])
        self._state = self._state.model_copy(update={"parts": {**self._state.parts, name: started}})
        self._write_state()
        return True

    def _end_orphans(self) -> None:
        known = {pid for watcher in self._watchers for pid in watcher.processes}
        left = end(orphans(self._self, known))
        if left:
            log.error("these processes could not be ended: %s", left)

    def _write_state(self) -> None:
        write_record(self._plan.run_folder / STATE_FILE, self._state)


def main(home: Path) -> int:
    """Run the plan of a home folder."""
    plan = read_plan(home)
    if plan is None:
        raise FileNotFoundError(f"{home} holds no plan of a stack")
    lock = _lock(plan.run_folder / LOCK_FILE)
    if lock is None:
        return ALREADY_RUNS
    _adopt_descendants()
    with lock:
        Supervisor(plan).run()
    return 0


def _lock(path: Path) -> IO[str] | None:
    stream = path.open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


def _adopt_descendants() -> None:
    """Become the parent of every descendant whose own parent dies, so that none can get away. Linux only.

    Source: prctl(2), PR_SET_CHILD_SUBREAPER.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
