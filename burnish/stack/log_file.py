"""A part's log: the part writes to its file itself, so that nothing stands between it and its last words."""

from pathlib import Path

MAX_BYTES = 20 * 2**20
KEPT = 3

# The shell opens the log for appending and becomes the command: same process, no reader that may fail or fall behind.
_APPEND = 'log="$1"; shift; exec "$@" >>"$log" 2>&1'


def logged(command: tuple[str, ...], log: Path) -> tuple[str, ...]:
    """Return the command line that runs a command with its output and errors appended to a log."""
    return ("/bin/sh", "-c", _APPEND, "sh", str(log), *command)


def turn_over(log: Path, max_bytes: int = MAX_BYTES) -> None:
    """Set a log aside when it has grown: it becomes ``<name>.1``, an older one ``<name>.2``, the oldest goes.

    Nothing may be writing to it.
    """
    if not log.exists() or log.stat().st_size < max_bytes:
        return
    for number in range(KEPT, 0, -1):
        younger = _numbered(log, number - 1)
        if younger.exists():
            younger.replace(_numbered(log, number))


def last_lines(log: Path, count: int = 20) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 16_384))
        text = stream.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-count:])


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}") if number else log
