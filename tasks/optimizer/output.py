"""The folder that a search writes: the best so far, every candidate, the result."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from registry.digest import tree_digest
from registry.errors import InputError
from registry.records.base import Record
from registry.records.model import ArtifactFormat, ArtifactRef, PluginConfig, Signature
from registry.records.optimization import Candidate, CandidateResult, OptimizationResult
from tasks.optimizer.base import Artifact

CANDIDATES_FILE = "candidates.json"
RESULT_FILE = "result.json"
BEST_FOLDER = "best"
BEST_FILE = "best.json"
_MARK_FILE = "optimization.json"


class Best(Record):
    """``best/best.json``: what the best candidate so far is and which folder beside the file holds its artifact."""

    candidate: Candidate
    folder: str
    artifact: ArtifactRef
    format: ArtifactFormat
    runtime: PluginConfig
    signature: Signature


class Output:
    """One search's folder. Files are replaced by rename, so that each is whole at every moment."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, or go on with an earlier one.

        Raises:
            InputError: it holds something else.
        """
        check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.absolute()
        _replace(self.folder / _MARK_FILE, json.dumps({"written_by": "burnish optimize"}))

    def candidate_folder(self, candidate: Candidate) -> Path:
        """The folder of one candidate: artifact, log, ``reproduce.py``."""
        return self.folder / "candidates" / candidate.id[:12]

    def write_candidates(self, results: Sequence[CandidateResult]) -> None:
        """Write ``candidates.json``."""
        rows = [result.model_dump(mode="json") for result in results]
        _replace(self.folder / CANDIDATES_FILE, json.dumps(rows, indent=1))

    def write_result(self, result: OptimizationResult) -> None:
        """Write ``result.json``."""
        _replace(self.folder / RESULT_FILE, result.model_dump_json(indent=1))

    def write_best(self, result: CandidateResult, artifact: Artifact) -> None:
        """Make a candidate the best: its artifact first, then ``best.json`` by rename, then the old artifact goes."""
        best = self.folder / BEST_FOLDER
        ref = artifact.ref()
        name = f"artifact-{ref.sha256[:12]}"
        best.mkdir(exist_ok=True)
        if not (best / name).exists():
            partial = best / ".partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(artifact.folder, partial)
            partial.rename(best / name)
        value = Best(
            candidate=result.candidate,
            folder=name,
            artifact=ref,
            format=artifact.format,
            runtime=result.candidate.runtime,
            signature=artifact.signature,
        )
        _replace(best / BEST_FILE, value.model_dump_json(indent=1))
        for path in best.iterdir():
            if path.name not in {name, BEST_FILE}:
                shutil.rmtree(path)


def read_best(folder: Path) -> tuple[Best, Artifact] | None:
    """Read what an output folder calls the best, with its bytes checked; None if there is none.

    Raises:
        InputError: the artifact's bytes are not those that were written.
    """
    file = folder / BEST_FOLDER / BEST_FILE
    if not file.is_file():
        return None
    best = Best.model_validate_json(file.read_text(encoding="utf-8"))
    place = file.parent / best.folder
    if tree_digest(place) != best.artifact.sha256:
        raise InputError(f"{place} has changed since it was written; run the search again")
    return best, Artifact(place, best.format, best.signature)


def check_free(folder: Path) -> None:
    """Check that a folder may be written to: absent, empty, or of an earlier search.

    Raises:
        InputError: it is a file or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give another folder to write to")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _MARK_FILE).is_file():
        raise InputError(f"{folder} holds something else; give a new or empty folder, or that of an earlier search")


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
