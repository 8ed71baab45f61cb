"""A part's log: what it writes, byte by byte, in a file that is turned over when it has grown."""

from pathlib import Path
from typing import TypedDict

MAX_BYTES = 20 * 2**20
KEPT = 3


class Output(TypedDict):
    """What the supervisor library hands over: bytes of one process's standard output or error."""

    data: bytes


class LogFile:
    """Appends to ``<part>.log``; older ones are ``<part>.log.1`` and so on."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Open the file for appending."""
        self._path = path
        self._max_bytes = max_bytes
        self._stream = path.open("ab", buffering=0)

    def __call__(self, output: Output) -> None:
        """Append what a process wrote."""
        if self._stream.tell() + len(output["data"]) > self._max_bytes:
            self._turn_over()
        self._stream.write(output["data"])

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _turn_over(self) -> None:
        self._stream.close()
        for number in range(KEPT, 0, -1):
            older = self._numbered(number)
            younger = self._numbered(number - 1)
            if younger.exists():
                younger.replace(older)
        self._stream = self._path.open("ab", buffering=0)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def last_lines(path: Path, count: int = 20) -> str:
    """Return the last lines of a log."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 16_384))
        text = stream.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-count:])
