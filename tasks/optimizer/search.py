"""The search: build each candidate, hold it against the source, measure those that are right, choose one."""

import shutil
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from registry.errors import CandidateError, InputError
from registry.records.optimization import (
    Candidate,
    CandidateResult,
    CandidateStatus,
    OptimizationConfig,
    OptimizationResult,
)
from tasks.bench.environment import environment, tool_versions
from tasks.bench.process import BenchmarkRun
from tasks.optimizer.base import Artifact
from tasks.optimizer.budget import Budget
from tasks.optimizer.build import Built, Workshop
from tasks.optimizer.cache import Cache
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.identity import Identity
from tasks.optimizer.judging import Reference
from tasks.optimizer.measurement import FINALISTS, Contestant, Measurement
from tasks.optimizer.output import Output
from tasks.optimizer.pareto import choose, front, policy_axes, why_not_chosen
from tasks.optimizer.progress import OnEvent, Progress
from tasks.optimizer.report import write_report
from tasks.optimizer.space import Planned, plan
from tasks.optimizer.standings import Standings


@dataclass(frozen=True)
class SearchRequest:
    """What a search is given."""

    source: Artifact
    evaluation: Dataset
    evaluation_digest: str
    calibration: Dataset | None
    calibration_digest: str | None
    config: OptimizationConfig
    out: Path
    """The folder to write: new, empty, or of an earlier search, which is then continued from the cache."""
    cache: Path


def optimize(request: SearchRequest, on_event: OnEvent) -> OptimizationResult:
    """Find the fastest version of a source model that is still right: every step of a search, one after the other.

    Raises:
        InputError: the request cannot be carried out; see ``Search``.
    """
    search = Search(request, on_event)
    search.start()
    while planned := search.next():
        search.attempt(planned)
    return search.finish()


class Search:
    """One search in motion: start it, attempt each candidate, finish it.

    The output folder holds the best so far at every moment.
    """

    reference: Reference
    baseline: Contestant

    def __init__(self, request: SearchRequest, on_event: OnEvent) -> None:
        """Plan the candidates; nothing is built yet.

        Args:
            request: what is searched, with which sets, where to.
            on_event: called with every change of a candidate, first once for each one as pending.

        Raises:
            InputError: the request cannot be carried out: an unknown pass, a policy without its limit, or an output
                folder that holds something else.
        """
        self.request = request
        self.config = request.config
        self.budget = Budget(request.config)
        policy_axes(request.config.policy, request.config.latency_limit_ms)
        identity = Identity(
            source=request.source.ref().sha256,
            calibration=request.calibration_digest,
            seed=request.config.seed,
            tools=tool_versions(),
        )
        calibrated = request.calibration is not None
        planned = plan(request.source.format, request.config, identity, calibrated=calibrated)
        self.planned_baseline, self._left = planned[0], deque(planned[1:])
        self.output = Output(request.out)
        self.workshop = _workshop(request, self.output, identity)
        self.progress = Progress(self.output, on_event)
        self.standings = Standings(request.config)
        self.measurement = Measurement(request.config, request.evaluation.inputs, self.output.folder / "measurements")
        for one in planned:
            self.progress.announce(one)

    def start(self) -> None:
        """Build and measure the baseline, whose answers are the reference.

        Raises:
            InputError: the source model cannot be run on the evaluation set, or the metric does not suit it.
        """
        planned = self.planned_baseline
        result = self.progress.begin(planned)
        try:
            built = self._build(planned.candidate, self.config.candidate_timeout_s)
            self.reference = Reference.of(built, self.request.evaluation.labels, self.config)
            result = self.reference.judge(result, built)
        except CandidateError as error:
            self.progress.end(result, CandidateStatus.FAILED, str(error))
            raise InputError(f"the source model itself cannot be run on the evaluation set: {error}") from error
        self.baseline = Contestant(result, built.artifact)
        self._enter(self.baseline)

    def next(self) -> Planned | None:
        """Propose the candidate to attempt next; None if there is nothing left to try."""
        return self._left.popleft() if self._left else None

    def attempt(self, planned: Planned) -> None:
        """Build, judge and screen one candidate, whatever comes of it."""
        result, left_s = self.progress.of(planned), self.budget.build_seconds
        if planned.skip or left_s <= 0:
            reason = planned.skip or self.budget.spent("before its turn")
            self.progress.end(result, CandidateStatus.SKIPPED, reason)
            return
        result = self.progress.begin(planned)
        try:
            built = self._build(planned.candidate, min(left_s, self.config.candidate_timeout_s))
            judged = self.reference.judge(result, built)
        except CandidateError as error:
            if self.budget.build_seconds <= 0:
                self.progress.end(result, CandidateStatus.SKIPPED, self.budget.spent("while it was built"))
            else:
                self.progress.end(result, CandidateStatus.FAILED, str(error))
            return
        self._enter(Contestant(judged, built.artifact))

    def finish(self) -> OptimizationResult:
        """Measure the finalists together, choose one, and write the result and its page."""
        winner = self._choose()
        result = OptimizationResult(
            source=self.request.source.ref(),
            evaluation_set=self.request.evaluation_digest,
            calibration_set=self.request.calibration_digest,
            config=self.config,
            environment=environment(),
            metric=self.reference.metric,
            samples=len(self.request.evaluation),
            candidates=self.progress.results,
            winner=winner,
            seconds=self.budget.seconds_used,
        )
        self.output.write_result(result)
        write_report(result, self.output.folder)
        return result

    def _choose(self) -> str | None:
        """Measure the finalists together, tell of every candidate's end and return the winner's id."""
        finalists = self.standings.finalists
        contestants = [self.baseline, *(one for one in finalists if not one.result.baseline)]
        run = self.measurement.final(contestants, self.budget.final_seconds)
        results = [_measured(one.result, run) for one in contestants]
        limit = self.config.latency_limit_ms
        winner = choose(results, self.config.policy, limit)
        on_front = front(results)
        for result in results:
            update: dict[str, object] = {"on_front": result.candidate.id in on_front}
            if winner and result.status is CandidateStatus.MEASURED and result != winner:
                update["reason"] = why_not_chosen(result, winner, self.config.policy, limit)
            self.progress.tell(result.model_copy(update=update))
        for result in self.standings.others(finalists):
            reason = f"not among the best {FINALISTS} at a first look"
            if winner:
                reason += f": {why_not_chosen(result, winner, self.config.policy, limit)}"
            self.progress.end(result, CandidateStatus.MEASURED, reason)
        if winner is None:
            return None
        artifact = next(one.artifact for one in contestants if one.result.candidate == winner.candidate)
        self.output.write_best(winner, artifact)
        return winner.candidate.id

    def _build(self, candidate: Candidate, timeout_s: float) -> Built:
        return self.workshop.build(candidate, self.output.candidate_folder(candidate), timeout_s)

    def _enter(self, contestant: Contestant) -> None:
        """Screen a candidate if its gate let it through; if it leads now, it is the best so far."""
        self.progress.tell(contestant.result)
        if contestant.result.status is not CandidateStatus.BUILT:
            return
        run = self.measurement.screen(self.standings.leader, contestant)
        failure = run.failures.get(contestant.result.candidate.id)
        if failure:
            self.progress.end(contestant.result, CandidateStatus.FAILED, f"could not be measured: {failure}")
            return
        self.progress.tell(self.standings.enter(contestant, run).result)
        leader = self.standings.leader
        if leader:
            self.output.write_best(leader.result, leader.artifact)


def _workshop(request: SearchRequest, output: Output, identity: Identity) -> Workshop:
    """Copy source and sets below the output folder, so that every candidate can be reproduced from it alone."""
    inputs = output.folder / "inputs"
    shutil.rmtree(inputs, ignore_errors=True)
    shutil.copytree(request.source.folder, inputs / "source")
    evaluation, calibration = inputs / "evaluation.npz", inputs / "calibration.npz"
    save_dataset(Dataset(request.evaluation.inputs), evaluation)
    if request.calibration is not None:
        save_dataset(Dataset(request.calibration.inputs), calibration)
    return Workshop(
        source=Artifact(inputs / "source", request.source.format, request.source.signature),
        evaluation=evaluation,
        evaluation_digest=request.evaluation_digest,
        calibration=calibration if request.calibration is not None else None,
        config=request.config,
        identity=identity,
        cache=Cache(request.cache),
    )


def _measured(result: CandidateResult, run: BenchmarkRun) -> CandidateResult:
    """A finalist's result with its final figures; a baseline that its gate refused stays refused."""
    failure = run.failures.get(result.candidate.id)
    if failure:
        reason = f"could not be measured: {failure}"
        return result.model_copy(update={"status": CandidateStatus.FAILED, "reason": reason})
    status = CandidateStatus.MEASURED if result.gate.passed else result.status
    return result.model_copy(update={"status": status, "benchmark": run.figures[result.candidate.id]})
