"""A load generator in a process of its own: a JSON document in on a line, one out on a line."""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_ROOT = Path(__file__).parents[2]


class LoadProcess:
    """The process of one module that puts load on servers."""

    def __init__(self, module: str) -> None:
        """Take the module; nothing is started yet."""
        self._module = module

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def ask(self, job: str) -> str:
        """Send a job as one line; return the line that comes back.

        Raises:
            RuntimeError: the process is gone.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(job + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended; what it wrote stands above")
        return line
