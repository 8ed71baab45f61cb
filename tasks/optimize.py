"""Steps of the search: the baseline, then one candidate at a time, then the finalists measured together."""

import asyncio

from registry.records.optimization import OptimizationResult
from tasks.optimizer.search import Search
from tasks.optimizer.space import Planned
from tasks.step import step


@step("baseline")
async def try_baseline(search: Search) -> None:
    """Build, run and measure the source as it is.

    Raises:
        InputError: the source cannot be run on the evaluation set.
    """
    await asyncio.to_thread(search.start)


@step("candidate", run_name="{planned.candidate.label}")
async def try_candidate(search: Search, planned: Planned) -> None:
    """Build, judge and screen one candidate, whatever comes of it."""
    await asyncio.to_thread(search.attempt, planned)


@step("benchmark finalists")
async def measure_finalists(search: Search) -> OptimizationResult:
    """Measure the finalists in turns, choose one, write the report."""
    return await asyncio.to_thread(search.finish)
