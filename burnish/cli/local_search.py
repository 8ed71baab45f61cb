"""A search on files alone: take the model in, check its sets, search, and show how it goes."""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rich.console import Console

from burnish.cli.board import Board, show_lines
from registry.digest import file_digest
from registry.records.optimization import OptimizationConfig, OptimizationResult
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import Dataset, load_dataset
from tasks.optimizer.progress import OnEvent
from tasks.optimizer.request import SearchRequest
from tasks.optimizer.search import optimize
from tasks.optimizer.source import take_in


@dataclass(frozen=True)
class SetFiles:
    """The user's files."""

    evaluation: Path
    calibration: Path | None


def run(
    model: Path,
    files: SetFiles,
    config: OptimizationConfig,
    out: Path,
    *,
    source_code: str | None,
    history: Path,
    started: float,
    quiet: bool,
) -> OptimizationResult:
    """Search, and show how it goes unless it shall be quiet.

    Args:
        model: the user's file.
        files: the sets.
        config: what the search shall do.
        out: the folder to write.
        source_code: ``FILE.py:FUNCTION``.
        history: the file of what earlier searches found.
        started: when the command began, by the monotonic clock: its budget began then.
        quiet: show nothing.

    Raises:
        InputError: the model, a set or the request cannot be used.
    """
    with (
        tempfile.TemporaryDirectory() as temporary,
        ThreadPoolExecutor(max_workers=1) as pool,
        _watched(config, time.monotonic() - started, quiet=quiet) as on_event,
    ):
        # Great Expectations takes seconds to import: meanwhile a child opens the model.
        quality = pool.submit(import_module, "monitoring.quality")
        source = take_in(model, Path(temporary))
        evaluation, calibration = _load_sets(source, files, quality)
        request = SearchRequest(
            source=source,
            evaluation=evaluation,
            evaluation_digest=file_digest(files.evaluation),
            calibration=calibration,
            calibration_digest=file_digest(files.calibration) if files.calibration else None,
            config=config,
            out=out,
            cache=out / "cache",
            history=history,
            used_s=time.monotonic() - started,
            source_code=source_code,
        )
        return optimize(request, on_event)


def _load_sets(source: Artifact, files: SetFiles, quality: Future[ModuleType]) -> tuple[Dataset, Dataset | None]:
    """Load the sets and check their quality.

    Raises:
        InputError: a set does not fit the model, or a check failed.
    """
    evaluation = load_dataset(files.evaluation, source.signature)
    calibration = load_dataset(files.calibration, source.signature) if files.calibration else None
    checks = quality.result()
    checked = checks.check_datasets(
        source.signature, evaluation.inputs, calibration.inputs if calibration else None, evaluation.labels
    )
    checks.require_quality(checked)
    return evaluation, calibration


@contextmanager
def _watched(config: OptimizationConfig, used_s: float, *, quiet: bool) -> Iterator[OnEvent]:
    console = Console()
    if quiet:
        yield lambda result: None
    elif console.is_terminal:
        with Board(console, 60 * config.budget_minutes - used_s) as board:
            yield board.show
    else:
        yield show_lines
