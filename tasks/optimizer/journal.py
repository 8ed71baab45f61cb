"""The journal of a search: what has ended, written at once, so that a search that was killed goes on from there."""

import json
import os
from pathlib import Path
from typing import Any

from registry.records.optimization import CandidateResult

JOURNAL_FILE = "journal.jsonl"


class Journal:
    """Lines of JSON: first the request, then each candidate that began or ended, last the word that all is done.

    A line is on disk before the next step begins. A last line that was cut off by a kill is dropped.
    """

    def __init__(self, folder: Path, request: str) -> None:
        """Go on with the journal of the same request if that was never finished, or else begin a new one.

        Args:
            folder: the output folder.
            request: digest of all that the search is asked.
        """
        self._file = folder / JOURNAL_FILE
        lines = _read(self._file)
        same = bool(lines) and lines[0].get("request") == request and not lines[-1].get("finished")
        self.seconds = max((float(line.get("seconds", 0.0)) for line in lines), default=0.0) if same else 0.0
        """What earlier runs of this search had used when they last wrote."""
        self.results: tuple[CandidateResult, ...] = _results(lines) if same else ()
        """What had ended, in that order."""
        kept = lines if same else [{"request": request}]
        partial = self._file.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        partial.replace(self._file)
        self._stream = self._file.open("a", encoding="utf-8")

    def begin(self, seconds: float) -> None:
        """Note the time used when a step begins."""
        self._write({"seconds": seconds})

    def end(self, result: CandidateResult, seconds: float) -> None:
        """Note what came of a candidate, with its figures from the first look."""
        self._write({"result": result.model_dump(mode="json"), "seconds": seconds})

    def finish(self) -> None:
        """Note that the search is done; the next one in this folder begins anew."""
        self._write({"finished": True})
        self._stream.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _read(file: Path) -> list[dict[str, Any]]:
    """Every whole line; none if the file is not a journal."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    lines = []
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines


def _results(lines: list[dict[str, Any]]) -> tuple[CandidateResult, ...]:
    found: dict[str, CandidateResult] = {}
    for line in lines:
        if "result" in line:
            try:
                result = CandidateResult.model_validate(line["result"])
            except ValueError:  # written by another version
                continue
            found[result.candidate.id] = result
    return tuple(found.values())
