"""The process server: imports libraries once, and forks a process for each job.

It never computes and never has a second thread: what a fork copies must be whole. Its standard input is the connection
to the search; when that ends, it ends. Every job has a warden between the server and itself: jobs outlive a server that
fails, and a job that kills its parent reaches only its own warden.
"""

import gc
import importlib
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tasks.optimizer.confined_job import Inherited, constants_below, run_job
from tasks.optimizer.confinement import PR_SET_CHILD_SUBREAPER, control_process
from tasks.optimizer.process_request import MESSAGE_BYTES, Importing, ProcessRequest, decode, encode
from tasks.optimizer.settings import environment_names
from tasks.optimizer.warden import children, descendants, watch

LIBRARIES = (
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "tasks.optimizer.child",
    "tasks.bench.child",
    "torch.export",
    "torch._dynamo",
    "onnxscript",
    "torch.onnx._internal.exporter._registration",
    "torch._inductor.compile_fx",
)
"""Imported while nobody asks; the last ones are what PyTorch's exporters and compilers import at their first use."""

IDLE_S = 900.0
"""After so long without a job the server ends; the next job starts another one."""

_HARMLESS_THREADS = frozenset({"jemalloc_bg_thd"})
"""They lock nothing that a fork could need: jemalloc stops and restarts its own around a fork."""
_SETTLE_S = 0.5
_ROUND_S = 0.5


class Server:
    """Serves one connection."""

    def __init__(self, control: socket.socket, left_out: frozenset[str]) -> None:
        """Serve a connection.

        Args:
            control: where requests come from, each with the asker's own connection.
            left_out: modules that only jobs may import.
        """
        self._control = control
        self._tried = set(left_out)
        self._home = str(Path.home())
        self._inherited = Inherited(environment_names(), self._home)
        self._seen: set[str] = set()
        self._wardens: dict[int, bool] = {}
        """The wardens by process id, and whether their jobs want quiet."""

    def serve(self) -> None:
        """Import libraries, and answer requests between two of them, until the connection ends."""
        idle = deque(LIBRARIES)
        last = time.monotonic()
        while self._wardens or time.monotonic() - last < IDLE_S:
            works = bool(idle) and not any(self._wardens.values())
            waiting, _, _ = select.select([self._control], [], [], 0 if works else _ROUND_S)
            self._reap()
            if waiting:
                last = time.monotonic()
                if not self._take_request():
                    return
            elif works:
                self._import(idle.popleft())

    def _take_request(self) -> bool:
        datagram, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 1)
        if not datagram:
            return False
        request: ProcessRequest = decode(datagram)
        with socket.socket(fileno=descriptors[0]) as asker:
            for module in request.imports:
                self._import(module)
            self._fork(request, asker)
        return True

    def _import(self, module: str) -> None:
        """Import a module here, once; who needs it and does not find it in a fork imports it there, and fails there."""
        if module in self._tried:
            return
        self._tried.add(module)
        self._tell(Importing(module=module))
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  a library may raise anything when imported: jobs will tell of it
            print(f"{module} is left to the jobs: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        if not _single_threaded():
            print(f"{module} starts threads: it is left to the jobs", file=sys.stderr)  # noqa: T201
            raise SystemExit(1)
        gc.collect()
        gc.freeze()  # a collection in a fork must not write to what is shared
        self._tell(Importing(module=module, done=True))

    def _fork(self, request: ProcessRequest, asker: socket.socket) -> None:
        self._note_paths()
        warden = os.fork()
        if warden:
            self._wardens[warden] = request.quiet
            return
        self._control.close()
        _be_warden(request, asker, self._inherited)

    def _note_paths(self) -> None:
        new = {name: module for name, module in sys.modules.items() if name not in self._seen}
        self._seen.update(new)
        found = constants_below(self._home, new.values())
        self._inherited = replace(self._inherited, paths=self._inherited.paths + found)

    def _reap(self) -> None:
        """Take leave of wardens that ended, and end what is left of jobs whose warden was killed."""
        with suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                self._wardens.pop(pid, None)
        for stray in set(children(os.getpid())).difference(self._wardens):
            for pid in (stray, *descendants(stray)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _tell(self, message: Importing) -> None:
        with suppress(OSError):
            self._control.send(encode(message), socket.MSG_DONTWAIT)


def _be_warden(request: ProcessRequest, asker: socket.socket, inherited: Inherited) -> NoReturn:
    try:
        os.setsid()
        warden = os.getpid()
        job = os.fork()
        if not job:
            asker.close()
            run_job(request, warden, inherited)
        watch(request, job, asker)
    finally:
        os._exit(0)


def _single_threaded() -> bool:
    give_up = time.monotonic() + _SETTLE_S
    while set(_threads()) - {str(os.getpid())}:
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True


def _threads() -> list[str]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            if (task / "comm").read_text(encoding="utf-8").strip() not in _HARMLESS_THREADS:
                found.append(task.name)
    return found


def main() -> None:
    """Serve the connection at standard input; the arguments are the modules to leave out."""
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    control_process(PR_SET_CHILD_SUBREAPER, 1)
    try:
        Server(control, frozenset(sys.argv[1:])).serve()
    finally:
        shutil.rmtree(Path.home(), ignore_errors=True)


if __name__ == "__main__":
    main()
