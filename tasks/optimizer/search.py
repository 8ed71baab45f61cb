"""The search: build each candidate, hold it against the source, measure those that are right, choose one."""

import time
from dataclasses import replace
from math import inf

from registry.digest import tree_digest
from registry.errors import CandidateError, InputError
from registry.records.optimization import (
    Candidate,
    CandidateResult,
    CandidateStatus,
    OptimizationResult,
)
from tasks.bench.environment import environment, tool_versions
from tasks.gates.metrics import check_metric
from tasks.optimizer.base import Artifact
from tasks.optimizer.budget import Budget
from tasks.optimizer.build import Built
from tasks.optimizer.catalogue import catalogue_job
from tasks.optimizer.divergence import explained
from tasks.optimizer.ending import Ending
from tasks.optimizer.history import History
from tasks.optimizer.identity import Identity
from tasks.optimizer.isolation import Limits
from tasks.optimizer.journal import Journal
from tasks.optimizer.judging import Reference
from tasks.optimizer.measurement import Contestant, Measurement
from tasks.optimizer.output import Output
from tasks.optimizer.pareto import policy_axes
from tasks.optimizer.progress import OnEvent, Progress
from tasks.optimizer.proposals import Proposals
from tasks.optimizer.report import write_report
from tasks.optimizer.request import SearchRequest, fill_workshop, request_digest
from tasks.optimizer.source_code import code_digest
from tasks.optimizer.space import Planned, planned_baseline
from tasks.optimizer.standings import Standings

_EXPLANATION_S, _EXPLANATION_SHARE = 20.0, 0.05
"""What naming the layer where a candidate goes astray may take, of the time left to build too."""


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
    """One search in motion: start it, attempt each candidate that it proposes, finish it.

    The output folder holds the best so far at every moment.
    """

    reference: Reference
    baseline: Contestant

    def __init__(self, request: SearchRequest, on_event: OnEvent) -> None:
        """Check the request and begin to ask what the plug-ins are; nothing is built yet.

        Args:
            request: what is searched, with which sets, where to.
            on_event: called with every change of a candidate, first when it is proposed, as pending.

        Raises:
            InputError: the request cannot be carried out: an unknown pass, runtime or metric, a policy without its
                limit, source code that is not there, or an output folder that holds something else.
        """
        self.request = request
        self.config = request.config
        policy_axes(request.config.policy, request.config.latency_limit_ms)
        check_metric(request.config.metric)
        identity = Identity(
            source=request.source.ref().sha256,
            calibration=request.calibration_digest,
            seed=request.config.seed,
            tools=tool_versions(),
            threads=request.config.threads,
            source_code=code_digest(request.source_code) if request.source_code else None,
        )
        job = catalogue_job(request.config, request.source)
        self.planned_baseline = planned_baseline(request.source.format, request.config, identity)
        self.output = Output(request.out)
        self.journal = Journal(self.output.folder, request_digest(request, identity))
        self.budget = Budget(request.config, self.journal.seconds + request.used_s)
        self.workshop = fill_workshop(request, self.output.folder, identity)
        self.progress = Progress(self.output, on_event)
        self.standings = Standings(request.config)
        self.measurement = Measurement(request.config, request.evaluation.inputs, self.output.folder / "measurements")
        history = History(request.history) if request.history else None
        self.proposals = Proposals(job, self.workshop, self.budget, history, self.output.folder)
        self._open = False
        self._ended = ""

    def start(self) -> None:
        """Build and measure the baseline, whose answers are the reference.

        Raises:
            InputError: the source model cannot be run on the evaluation set, or the metric does not suit it.
        """
        planned = self.planned_baseline
        self.progress.announce(planned)
        result = self.progress.begin(planned)
        with self.budget.on("baseline"):
            try:
                built = self._build(planned.candidate, self.config.candidate_timeout_s)
                self.reference = Reference.of(built, self.request.evaluation, self.config)
                result = self.reference.judge(result, built)
            except CandidateError as error:
                self.progress.end(result, CandidateStatus.FAILED, str(error))
                raise InputError(f"the source model itself cannot be run on the evaluation set: {error}") from error
            earlier = self._earlier(planned.candidate)
            if earlier and earlier.benchmark:
                self._take_over(earlier)
            else:
                self._enter(Contestant(result, built.artifact))
                self.journal.end(self.progress.of(planned), self.budget.seconds_used)
        self.baseline = Contestant(self.progress.of(planned), built.artifact)

    def next(self) -> Planned | None:
        """Propose the candidate to attempt next; None if nothing is left to try or the time to build is over."""
        if not self._open:
            self._begin()
        if self.budget.build_seconds <= 0:
            self._ended = self.budget.spent("")
            return None
        planned = self.proposals.next()
        if planned is None or self.budget.build_seconds <= 0:  # a repair takes its time to be found
            self._ended = self.proposals.ended if planned is None else self.budget.spent("")
            return None
        self.progress.announce(planned)
        return planned

    def attempt(self, planned: Planned) -> None:
        """Build, judge and screen one candidate, whatever comes of it."""
        started = time.monotonic()
        self.journal.begin(self.budget.seconds_used)
        result = self.progress.begin(planned)
        try:
            with self.budget.on("building"):
                built = self._build(planned.candidate, min(self.budget.build_seconds, self.config.candidate_timeout_s))
                judged = self.reference.judge(result, built)
        except CandidateError as error:
            if self.budget.build_seconds <= 0:
                self.progress.end(result, CandidateStatus.SKIPPED, self.budget.spent("while it was built"))
                return
            self.progress.end(result, CandidateStatus.FAILED, str(error))
        else:
            with self.budget.on("first looks"):
                self._enter(Contestant(self._explained(planned, judged, built.artifact), built.artifact))
        ended = self.progress.of(planned)
        if ended.status is CandidateStatus.SKIPPED:
            return
        self.journal.end(ended, self.budget.seconds_used)
        self.proposals.learn(ended, time.monotonic() - started)

    def finish(self) -> OptimizationResult:
        """Measure the finalists together, choose one, and write the result and its page."""
        self._tell_untried()
        self.journal.begin(self.budget.seconds_used)
        with self.budget.on("final measurement"):
            winner = Ending(self.config, self.standings, self.measurement, self.progress, self.output).choose(
                self.baseline, self.budget.final_seconds
            )
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
            sensitivity=self.proposals.sensitivity,
            seconds=self.budget.seconds_used,
            seconds_by_step=self.budget.steps,
            ended=self._ended,
        )
        self.output.write_result(result)
        write_report(result, self.output.folder)
        self.journal.finish()
        return result

    def _begin(self) -> None:
        """Learn what the plug-ins are and what an interrupted run has done."""
        for planned in self.proposals.open(self.progress.of(self.planned_baseline)):
            self.progress.announce(planned)
        for one in self.journal.results:
            earlier = self._earlier(one.candidate)
            if earlier and not earlier.baseline:
                self._take_over(earlier)
                self.proposals.learn(earlier, 0.0)
        self._open = True

    def _tell_untried(self) -> None:
        """Tell of each chain that was not tried, with the reason."""
        if not self._open:
            self._begin()
        known = {result.candidate.id for result in self.progress.results}
        for planned, reason in self.proposals.rest():
            if planned.candidate.id not in known:  # cut at the end of the budget, it has its own reason
                spent = self.budget.spent("before its turn") if self.budget.build_seconds <= 0 else self._ended
                self.progress.announce(replace(planned, skip=reason or spent))

    def _earlier(self, candidate: Candidate) -> CandidateResult | None:
        """What an interrupted run found out about a candidate, if it is the same still, and its bytes too."""
        found = next((one for one in self.journal.results if one.candidate == candidate), None)
        if found is None or self.workshop.identity.candidate(candidate.recipe, candidate.runtime) != candidate:
            return None
        folder = self.output.candidate_folder(candidate) / "artifact"
        if found.artifact and not (folder.is_dir() and tree_digest(folder) == found.artifact.sha256):
            return None
        return found.model_copy(update={"taken_over": True})

    def _take_over(self, earlier: CandidateResult) -> None:
        self.progress.tell(earlier)
        if earlier.status is CandidateStatus.BUILT and earlier.artifact and earlier.signature:
            folder = self.output.candidate_folder(earlier.candidate) / "artifact"
            self.standings.add(Contestant(earlier, Artifact(folder, earlier.artifact.format, earlier.signature)))
            self._keep_best()

    def _explained(self, planned: Planned, judged: CandidateResult, product: Artifact) -> CandidateResult:
        """Name the layer where a refused candidate goes astray; of a repair it is known."""
        timeout_s = min(_EXPLANATION_S, _EXPLANATION_SHARE * self.budget.build_seconds)
        if planned.repairs or timeout_s <= 0:
            return judged
        limits = Limits(timeout_s, self.config.candidate_memory_mib)
        workspace = self.output.candidate_folder(planned.candidate) / "divergence"
        return explained(judged, product, self.workshop, workspace, limits)

    def _build(self, candidate: Candidate, timeout_s: float) -> Built:
        return self.workshop.build(candidate, self.output.candidate_folder(candidate), timeout_s)

    def _enter(self, contestant: Contestant) -> None:
        """Screen a candidate if its gate let it through; if it leads now, it is the best so far."""
        self.progress.tell(contestant.result)
        if contestant.result.status is not CandidateStatus.BUILT:
            return
        leader = self.standings.leader
        timeout_s = max(1.0, self.budget.build_seconds) if leader else inf
        run = self.measurement.screen(leader, contestant, timeout_s)
        failure = run.failures.get(contestant.result.candidate.id)
        if failure and self.budget.build_seconds <= 0:
            spent = self.budget.spent("while it was measured")
            self.progress.end(contestant.result, CandidateStatus.SKIPPED, spent)
            return
        if failure:
            self.progress.end(contestant.result, CandidateStatus.FAILED, f"could not be measured: {failure}")
            return
        self.progress.tell(self.standings.enter(contestant, run).result)
        self._keep_best()

    def _keep_best(self) -> None:
        leader = self.standings.leader
        if leader:
            self.output.write_best(leader.result, leader.artifact)
