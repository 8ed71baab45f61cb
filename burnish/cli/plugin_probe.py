"""Ask plug-ins whether they can run here, in child processes: what breaks there breaks nothing here."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from burnish.cli.plugins import why_unavailable
from registry.plugins import PASSES, RUNTIMES, PluginKind

SECONDS_EACH = 60.0
"""For one plug-in; the first one imports PyTorch."""
_KINDS = {kind.noun: kind for kind in (PASSES, RUNTIMES)}


def ask_all(names: dict[str, Sequence[str]]) -> dict[tuple[str, str], str | None]:
    """Return by kind and name why a plug-in cannot run here; None if it can.

    The plug-ins of a kind share a child process; one that ends or hangs costs that plug-in alone.

    Args:
        names: the plug-ins of each kind, by the kind's noun.
    """
    with ThreadPoolExecutor(max_workers=len(names) or 1) as pool:
        answers = pool.map(lambda kind: dict(_ask(kind, names[kind])), names)
        return {(kind, name): why for kind, found in zip(names, answers, strict=True) for name, why in found.items()}


def _ask(kind: str, names: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    left = list(names)
    while left:
        for name, why in _ask_child(kind, tuple(left)):
            yield name, why
            left.remove(name)


def _ask_child(kind: str, names: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Ask plug-ins in one child, until it has answered for all or is lost at one, which is then told."""
    command = [sys.executable, "-P", "-m", "burnish.cli.plugin_probe", kind, *names]
    lines: queue.Queue[str] = queue.Queue()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
        reader.start()
        for name in names:
            why, lost = _next(lines)
            yield name, why
            if lost:
                break
        child.kill()
        reader.join()


def _next(lines: "queue.Queue[str]") -> tuple[str | None, bool]:
    """One answer, and whether the child is lost."""
    try:
        line = lines.get(timeout=SECONDS_EACH)
    except queue.Empty:
        return f"importing it took longer than {SECONDS_EACH:g} s; look at what its module does first", True
    if not line:
        return "importing it ended the process; look at what its module does first", True
    why: str | None = json.loads(line)["why"]
    return why, False


def _read(child: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    if child.stdout:
        for line in child.stdout:
            lines.put(line)
    lines.put("")


def _answer(kind: PluginKind, names: Sequence[str]) -> None:
    """Write one line for each plug-in; what a library prints goes elsewhere."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for name in names:
            answers.write(json.dumps({"why": why_unavailable(kind, name)}) + "\n")
            answers.flush()


if __name__ == "__main__":
    _answer(_KINDS[sys.argv[1]], sys.argv[2:])
