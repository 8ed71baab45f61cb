"""Flow: from an uploaded model to the fastest version that is still right, live."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, states
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import JsonValue

from flows import audited, pages, releases, wiring
from flows.progress import Cancelled, Progress, close_abandoned, close_cancelled
from flows.settings import StackSettings
from flows.workers import Workers
from registry.errors import BurnishError, InputError, TransientError, VersionConflict
from registry.ledger.ledger import Ledger
from registry.records.change import Change, Promote
from registry.records.gate import GateDecision, RuleOutcome, Verdict
from registry.records.model import ModelVersion
from registry.records.optimization import OptimizationRequest, OptimizationResult
from registry.records.release import OptimizationState
from registry.store.base import ArtifactStore, ModelStore
from tasks.gate import (
    Contender,
    Live,
    champion_of,
    champion_sets,
    compare_with_champion,
    find_live,
    require_same_signature,
)
from tasks.intake import Sets, check_quality, load_sets, take_in_source
from tasks.optimize import measure_finalists, try_baseline, try_candidate
from tasks.optimizer.base import Artifact
from tasks.optimizer.history import HISTORY_FILE
from tasks.optimizer.output import RESULT_FILE
from tasks.optimizer.process_server import start_process_server
from tasks.optimizer.report import REPORT_FILE, write_plots
from tasks.optimizer.request import SearchRequest
from tasks.optimizer.search import Search
from tasks.optimizer.space import reference_runtime
from tasks.package import publish_bento
from tasks.register import draft_version, keep_artifact, register


@dataclass(frozen=True)
class Run:
    """One run of the flow: what is asked, and what it works with."""

    request: OptimizationRequest
    settings: StackSettings
    ledger: Ledger
    artifacts: ArtifactStore
    store: ModelStore
    progress: Progress
    workers: Workers

    @property
    def workspace(self) -> Path:
        """The run's folder; the same for every run of one optimization."""
        return self.settings.work_folder / self.request.id


@flow(
    name="optimize",
    flow_run_name="optimize {request.model}",
    on_failure=[close_abandoned],
    on_crashed=[close_abandoned],
    on_cancellation=[close_abandoned],
)
async def optimize(request: OptimizationRequest) -> State[Any]:
    """Take a model in, find its fastest right version, and release it if the gate lets it through.

    Args:
        request: the model's name, the uploads by digest, and what the search shall do.
    """
    start_process_server()
    settings = StackSettings()
    ledger = wiring.ledger(settings)
    try:
        run = Run(
            request=request,
            settings=settings,
            ledger=ledger,
            artifacts=wiring.artifacts(settings),
            store=wiring.model_store(settings),
            progress=Progress(ledger, request, flow_run.get_id()),
            workers=wiring.workers(settings),
        )
        return await _to_its_end(run)
    except Cancelled:
        status = ledger.optimization(request.id)
        close_cancelled(ledger, wiring.artifacts(settings), settings.work_folder / request.id, status)
        return states.Cancelled(message="cancelled while it ran")
    finally:
        ledger.close()


async def _to_its_end(run: Run) -> State[Any]:
    try:
        return await _steps(run)
    except InputError as error:
        run.progress.end(OptimizationState.INVALID, str(error))
        return Failed(name="Invalid", message=str(error))
    except BurnishError as error:
        run.progress.end(OptimizationState.FAILED, str(error))
        return Failed(message=str(error))


async def _steps(run: Run) -> State[Any]:
    request = run.request
    run.progress.stage("intake")
    source = await take_in_source(request, run.artifacts, run.workspace)
    sets = await load_sets(request, source, run.artifacts)
    run.progress.stage("data checks")
    await check_quality(source, sets)
    run.progress.stage("champion check")
    live = await find_live(request.model, run.ledger, run.store)
    before = await _against_champion(run, Contender(source, reference_runtime(source.format)), sets, live, "source")
    if any(outcome.verdict is not Verdict.PASS for outcome in before):
        return await _refuse(run, before)
    result = await _search(run, source, sets)
    report = await _keep_result(run, result)
    winner = result.chosen
    if winner is None or winner.artifact is None or winner.signature is None or winner.folder is None:
        outcomes = tuple(outcome for candidate in result.candidates for outcome in candidate.gate.refusals)
        return await _refuse(run, outcomes or (_nothing_ran(result),))
    run.progress.stage("gate")
    folder = run.workspace / "search" / winner.folder / "artifact"
    artifact = Artifact(folder, winner.artifact.format, winner.signature)
    after = await _against_champion(run, Contender(artifact, winner.candidate.runtime), sets, live, "winner")
    gate = GateDecision(outcomes=(*winner.gate.outcomes, *before, *after))
    await pages.show_gate(request.model, gate.outcomes)
    if not gate.passed:
        return await _refuse(run, gate.outcomes)
    run.progress.stage("register")
    await keep_artifact(folder, winner.artifact, run.artifacts)
    parent = live.version.version if live else None
    draft = draft_version(request, result, gate=gate, parent_version=parent, report=report)
    version = await register(draft, run.store, run.ledger)
    run.progress.stage("build Bento")
    await publish_bento(version, run.artifacts, run.settings.bento_folder)
    return await _release(run, version, gate, live)


async def _search(run: Run, source: Artifact, sets: Sets) -> OptimizationResult:
    request = run.request
    run.progress.stage("candidates")
    asked = SearchRequest(
        source=source,
        evaluation=sets.evaluation,
        evaluation_digest=request.evaluation,
        calibration=sets.calibration,
        calibration_digest=request.calibration,
        config=request.config,
        out=run.workspace / "search",
        cache=run.settings.cache_folder,
        history=run.settings.cache_folder / HISTORY_FILE,
    )
    search = await asyncio.to_thread(Search, asked, run.progress.candidate)
    await try_baseline(search)
    while planned := await asyncio.to_thread(search.next):
        await try_candidate(search, planned)
    run.progress.stage("benchmark")
    return await measure_finalists(search)


async def _release(run: Run, version: ModelVersion, gate: GateDecision, live: Live | None) -> State[Any]:
    model, number = run.request.model, version.version
    if not run.request.release:
        await asyncio.to_thread(releases.publish, run.ledger, run.settings.catalog_folder, model)
        run.progress.end(OptimizationState.REGISTERED, f"version {number} is registered", gate=gate, version=number)
        return Completed(name="Registered", message=f"{model} version {number} is registered, not released")
    run.progress.stage("release")
    try:
        await asyncio.to_thread(_promote, run, number, gate, live.generation if live else 0)
    except VersionConflict as error:
        message = (
            f"version {number} is registered but not live, because it was compared with what was live then: {error}"
        )
        run.progress.end(OptimizationState.REGISTERED, message, gate=gate, version=number)
        return Completed(name="Conflict", message=message)
    run.progress.end(OptimizationState.RELEASED, f"version {number} is live", gate=gate, version=number)
    return Completed(name="Released", message=f"{model} version {number} is live")


def _promote(run: Run, number: int, gate: GateDecision, generation: int) -> None:
    """Promote over the very route that the gate looked at; 0 is no route."""
    model = run.request.model
    route = run.ledger.route(model)
    if route is None or route.champion != number:  # a run that is done again after a crash may find it live
        change = Change(
            model=model,
            step=Promote(version=number),
            actor=f"optimization {run.request.id}",
            reason="; ".join(f"{outcome.rule}: {outcome.reason}" for outcome in gate.outcomes),
            expected_generation=generation,
        )
        evidence: dict[str, JsonValue] = {
            "optimization": run.request.id,
            "source": run.request.source,
            "evaluation": run.request.evaluation,
            "gate": [f"{outcome.rule}: {outcome.verdict}" for outcome in gate.outcomes],
        }
        route = audited.change_route(
            run.ledger, run.settings.catalog_folder, change, flow_run=flow_run.get_id(), evidence=evidence
        )
    try:
        releases.mirror(run.ledger, run.store, model)
    except TransientError as error:
        get_run_logger().warning("the MLflow alias follows later: %s", error)
    taken = run.workers.await_generation(model, route.generation)
    if taken.pending:
        get_run_logger().warning("version %s is live, but workers %s do not serve it yet", number, taken.pending)


async def _refuse(run: Run, outcomes: tuple[RuleOutcome, ...]) -> State[Any]:
    await pages.show_gate(run.request.model, outcomes)
    refused = [f"{outcome.rule}: {outcome.reason}" for outcome in outcomes if outcome.verdict is not Verdict.PASS]
    message = f"refused by the gate: {'; '.join(refused)}"
    run.progress.end(OptimizationState.REFUSED, message, gate=GateDecision(outcomes=outcomes))
    return Completed(name="Refused", message=message)


async def _keep_result(run: Run, result: OptimizationResult) -> str:
    folder = run.workspace / "search"
    page = run.workspace / "page"
    page.mkdir(parents=True, exist_ok=True)
    for name in (RESULT_FILE, REPORT_FILE):
        await asyncio.to_thread(shutil.copyfile, folder / name, page / name)
    await asyncio.to_thread(write_plots, result, page)
    digest = await asyncio.to_thread(run.artifacts.put, page)
    run.progress.keep_result(digest)
    await pages.show_search(run.request.model, result, run.settings.control_url, run.request.id)
    return digest


async def _against_champion(
    run: Run, contender: Contender, sets: Sets, live: Live | None, role: str
) -> tuple[RuleOutcome, ...]:
    """Ask the second question; no champion, no question."""
    if live is None:
        return ()
    require_same_signature(contender.artifact.signature, live.version)
    named = await asyncio.to_thread(champion_sets, live.version, run.request.evaluation, sets.evaluation, run.artifacts)
    champion = await asyncio.to_thread(champion_of, live.version, run.artifacts)
    workspace = run.workspace / f"champion-{role}"
    return await compare_with_champion(contender, champion, named, run.request.config, workspace)


def _nothing_ran(result: OptimizationResult) -> RuleOutcome:
    reasons = "; ".join(f"{candidate.candidate.label}: {candidate.reason}" for candidate in result.candidates)
    return RuleOutcome(
        rule="a_candidate_runs", verdict=Verdict.FAIL, reason=f"no candidate could be measured: {reasons}"
    )
