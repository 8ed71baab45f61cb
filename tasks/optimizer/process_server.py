"""The process server as its users see it: one for this process, started early, started again when it fails."""

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from registry.errors import CandidateError
from tasks.optimizer.process_request import Ended, Importing, ProcessRequest, Started, encode, receive
from tasks.optimizer.settings import child_environment, decline_telemetry

_MODULE = "tasks.optimizer.process_server_child"
_LOG = "server.txt"
_ATTEMPTS = 4
_START_WITHIN_S = 180.0
"""For a server to import what a job needs and to fork; on a busy machine the largest library takes half a minute."""
_KILL_WITHIN_S = 30.0
"""For a warden to end a job when its time is over or nobody waits for it."""
_QUOTED = 500


class ProcessServer:
    """A clean process that has imported the libraries and forks a process for each job. Safe with threads."""

    def __init__(self, left_out: frozenset[str] = frozenset()) -> None:
        """Start nothing yet.

        Args:
            left_out: modules that the server must not import.
        """
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._home = Path()
        self._left_out = set(left_out)
        self._last_words = ""

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> None:
        """Start the server's process, if there is none, and leave it to its imports."""
        with self._lock:
            self._started()

    def stop(self) -> None:
        """End the server; jobs that run are not touched. The next job starts another server."""
        with self._lock:
            self._end()

    def run(self, request: ProcessRequest) -> str:
        """Run a job in a process of its own, to its end; return how that came, in words after "the child process".

        Raises:
            CandidateError: no server starts, not even one that imports nothing for this job.
        """
        for _ in range(_ATTEMPTS):
            served, asker = self._ask(request)
            with asker:
                if _has_started(asker):
                    return _ending(asker, request.timeout_s)
            with self._lock:
                if self._process is served:
                    self._end_failed()
        raise CandidateError(f"the process server does not start: {self._last_words or 'it printed nothing'}")

    def forget(self) -> None:
        """In a fork of this process: the server belongs to the parent."""
        control, self._control, self._process = self._control, None, None
        self._lock = threading.Lock()
        if control:
            control.close()

    def _ask(self, request: ProcessRequest) -> tuple[subprocess.Popen[bytes], socket.socket]:
        own, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.settimeout(_START_WITHIN_S)
        with self._lock, given:
            process, control = self._started()
            imports = tuple(module for module in request.imports if module not in self._left_out)
            with suppress(OSError):  # it is gone: the asker's own connection will tell
                message = encode(request.model_copy(update={"imports": imports}))
                socket.send_fds(control, [message], [given.fileno()])
        return process, own

    def _started(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._process and self._control and self._process.poll() is None:
            return self._process, self._control
        self._end_failed()
        self._home = Path(tempfile.mkdtemp(prefix="burnish-process-server-"))
        decline_telemetry(self._home)
        own, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with given, (self._home / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, *sorted(self._left_out)],
                stdin=given.fileno(),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                env=child_environment(self._home, threads=1),
                start_new_session=True,
            )
        self._process, self._control = process, own
        return process, own

    def _end_failed(self) -> None:
        """End a server that did not serve; what it was importing when it failed is left to the jobs from now on."""
        if self._control:
            self._left_out |= _unfinished(self._control)
        with suppress(OSError):
            self._last_words = (self._home / _LOG).read_text(encoding="utf-8", errors="replace").strip()[-_QUOTED:]
        self._end()

    def _end(self) -> None:
        process, control = self._process, self._control
        self._process = self._control = None
        if process and control:
            control.close()
            process.kill()
            process.wait()
            shutil.rmtree(self._home, ignore_errors=True)


def _has_started(asker: socket.socket) -> bool:
    try:
        return isinstance(receive(asker), Started)
    except TimeoutError:
        return False


def _ending(asker: socket.socket, timeout_s: float) -> str:
    """Wait for a job to end, and say how; when this wait is broken off, nothing of the job is left either."""
    asker.settimeout(timeout_s + _KILL_WITHIN_S)
    try:
        message = receive(asker)
    except TimeoutError:
        return f"took longer than {timeout_s:g} s, and what watches over it does not answer"
    finally:
        with suppress(OSError):
            asker.shutdown(socket.SHUT_WR)
            asker.settimeout(_KILL_WITHIN_S)
            while receive(asker):
                pass
    return message.ending if isinstance(message, Ended) else "was lost: what watches over it was killed"


def _unfinished(control: socket.socket) -> set[str]:
    """The modules whose import was begun and not done, as far as the server told."""
    control.setblocking(False)
    begun: set[str] = set()
    with suppress(OSError):
        while message := receive(control):
            if isinstance(message, Importing):
                (begun.discard if message.done else begun.add)(message.module)
    return begun


_SERVER = ProcessServer()
atexit.register(_SERVER.stop)
os.register_at_fork(after_in_child=_SERVER.forget)


def start_process_server() -> None:
    """Start importing the libraries that children need, beside what the caller does next; returns at once.

    A second call does nothing, in whatever thread. Children are served without it too: the first one then waits for
    the imports.
    """
    _SERVER.start()


def process_server() -> ProcessServer:
    """The server of this process."""
    return _SERVER
