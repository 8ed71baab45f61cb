"""Write one hand-made line of one net in a process of its own, and see that it runs: some tools end the process."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.hand_made import base, catalog, onnx_runtime, open_vino, pytorch
from benchmarks.hand_made.base import Prepared
from benchmarks.hand_made.catalog import LINES
from benchmarks.nets.catalog import NETS
from benchmarks.prepare import net_digest, prepare
from registry.digest import json_digest

_ROOT = Path(__file__).parents[2]
_DONE_FILE = "done.txt"
_FAILED_FILE = "failed.txt"
_TIMEOUT_S = 600.0
_BATCH_SIZES = (1, 8)
_ERROR = re.compile(r"[\w.]*(Error|Exception|Fail)\w*:")


def write_lines(prepared: Prepared, files: Path, folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Write every line below a folder, or take what an earlier run wrote.

    Args:
        prepared: the net.
        files: the folder that it was prepared in.
        folder: of the lines; holds a log for each.

    Returns:
        The lines' folders by name, and why the others failed.
    """
    key = json_digest(
        [
            net_digest(prepared.net),
            *(inspect.getsource(module) for module in (base, catalog, onnx_runtime, open_vino, pytorch)),
        ]
    )
    written, failed = dict[str, Path](), dict[str, str]()
    for name in LINES:
        place = folder / name.replace(",", "").replace(" ", "_")
        if not _outcome(place, _DONE_FILE).startswith(key) and not _outcome(place, _FAILED_FILE).startswith(key):
            _write_apart(prepared.net.name, files, name, place, key)
        if _outcome(place, _DONE_FILE).startswith(key):
            written[name] = place
        else:
            failed[name] = _outcome(place, _FAILED_FILE).removeprefix(key).strip()
    return written, failed


def _outcome(place: Path, file: str) -> str:
    return (place / file).read_text(encoding="utf-8") if (place / file).is_file() else ""


def _write_apart(net: str, files: Path, line: str, place: Path, key: str) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    log = place.with_suffix(".txt")
    with log.open("wb") as stream:
        command = [
            sys.executable,
            "-m",
            "benchmarks.hand_made.write",
            net,
            str(files.absolute()),
            line,
            str(place.absolute()),
        ]
        ended = subprocess.run(command, cwd=_ROOT, stdout=stream, stderr=stream, timeout=_TIMEOUT_S, check=False)
    if ended.returncode:
        reason = _reason(log.read_text(encoding="utf-8", errors="replace"), ended.returncode)
        (place / _FAILED_FILE).write_text(f"{key} {reason}", encoding="utf-8")
    else:
        (place / _DONE_FILE).write_text(key, encoding="utf-8")


def _reason(log: str, code: int) -> str:
    """The last error that the process named, or how it ended."""
    named = [line.strip() for line in log.splitlines() if _ERROR.match(line)]
    return named[-1][:300] if named else f"ended with exit code {code}"


def write_line(net: str, files: Path, name: str, place: Path) -> None:
    """Write a line into an empty folder, load it and run it at each batch size."""
    prepared, line = prepare(NETS[net], files), LINES[name]
    line.write(prepared, place)
    call = line.open(prepared, place)
    for size in _BATCH_SIZES:
        logits = call({prepared.net.input_name: np.ascontiguousarray(prepared.samples.evaluation[:size])})
        if len(logits) != size or not np.isfinite(logits).all():
            raise RuntimeError(f"the line {name} answers {size} samples with {logits.shape}, finite or not")


if __name__ == "__main__":
    write_line(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
    sys.stdout.flush()
    os._exit(0)  # a library's thread cannot hold the process up once the line stands
