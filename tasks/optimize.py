"""Step: the whole search, one candidate at a time."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from registry.records.optimization import CandidateResult, OptimizationRequest, OptimizationResult
from tasks.intake import Sets
from tasks.optimizer.base import Artifact
from tasks.optimizer.search import SearchRequest, optimize
from tasks.step import step


@step("search")
async def search(
    request: OptimizationRequest,
    source: Artifact,
    sets: Sets,
    folders: tuple[Path, Path],
    on_event: Callable[[CandidateResult], None],
) -> OptimizationResult:
    """Build, check and measure the candidates.

    Args:
        request: what is asked.
        source: the model as taken in.
        sets: evaluation and calibration set.
        folders: where the search writes, and the cache of candidates.
        on_event: called with every change of a candidate.

    Raises:
        CandidateError: the baseline itself cannot be run.
    """
    out, cache = folders
    asked = SearchRequest(
        source=source,
        evaluation=sets.evaluation,
        evaluation_digest=request.evaluation,
        calibration=sets.calibration,
        calibration_digest=request.calibration,
        config=request.config,
        out=out,
        cache=cache,
    )
    return await asyncio.to_thread(optimize, asked, on_event)
