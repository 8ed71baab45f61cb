"""Where a search's candidates come from: the plug-ins' descriptions, earlier searches, the strategy and the repairs."""

import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from registry.records.optimization import CandidateResult, CandidateStatus, Policy, Sensitivity
from tasks.bench.environment import environment
from tasks.gates.rules import FIDELITY
from tasks.optimizer.base import Stage
from tasks.optimizer.budget import Budget
from tasks.optimizer.build import Workshop
from tasks.optimizer.catalogue import TIMEOUT_S, Catalogue, CatalogueJob, describe
from tasks.optimizer.history import Circumstances, Entry, History
from tasks.optimizer.isolation import Limits
from tasks.optimizer.pareto import latency_at_largest_batch, latency_at_smallest_batch, policy_axes, within_limit
from tasks.optimizer.repair import Repair
from tasks.optimizer.space import Planned, chains, missing
from tasks.optimizer.strategy import Outcome, Strategy, Trial

_ENDINGS = (CandidateStatus.FAILED, CandidateStatus.REFUSED)


class Proposals:
    """Proposes candidates one at a time, and learns what came of each."""

    def __init__(
        self, job: CatalogueJob, workshop: Workshop, budget: Budget, history: History | None, folder: Path
    ) -> None:
        """Begin to ask what the plug-ins are, in a child process beside what the caller does next.

        Args:
            job: the plug-ins that may be used.
            workshop: what candidates are built with.
            budget: of the search.
            history: what candidates did in earlier searches.
            folder: for the children's files.
        """
        self._workshop = workshop
        self._config = workshop.config
        self._identity = workshop.identity
        self._budget = budget
        self._history = history
        self._folder = folder
        self._trials: dict[str, Trial] = {}
        self._results: dict[str, CandidateResult] = {}
        self._repair: Repair | None = None
        timeout_s = min(TIMEOUT_S, max(1.0, budget.build_seconds))
        self._catalogue: Future[Catalogue] = Future()
        asking = Thread(target=_fulfil, args=(self._catalogue, job, folder / "catalogue", timeout_s), daemon=True)
        asking.start()

    def open(self, baseline: CandidateResult) -> tuple[Planned, ...]:
        """Wait until the plug-ins are known; return what cannot be tried here at all, with the reasons."""
        self._baseline = baseline
        with self._budget.on("plug-ins"):
            catalogue = self._catalogue.result()
        source = self._workshop.source
        found = chains(source.format, catalogue, self._config.threads)
        given = {
            "calibrated": self._workshop.calibration is not None,
            "source_code": self._workshop.source_code is not None,
        }
        usable = [chain for chain in found if not chain.lacks(**given)]
        about = self._circumstances(catalogue)
        advice = self._history.advise(about, usable) if self._history and about else None
        self._strategy = Strategy(
            advice.chains if advice else usable, advice.first if advice else (), self._mend, self._config.seed
        )
        self._about = about
        self._repair = Repair(
            source,
            self._workshop.calibration,
            self._folder / "sensitivity",
            self._workshop.cache,
            self._identity,
            Limits(self._config.candidate_timeout_s, self._config.candidate_memory_mib, threads=os.cpu_count() or 1),
            [one.name for one in catalogue.passes.values() if one.stage is Stage.QUANTIZE and one.leaves_layers],
        )
        self.learn(baseline, 0.0)
        lacking = [(chain, chain.lacks(**given)) for chain in found if not chain.extras]
        return (
            *missing(catalogue, baseline.candidate, self._identity),
            *(Planned(chain.candidate({}, self._identity), skip=lack) for chain, lack in lacking if lack),
        )

    @property
    def sensitivity(self) -> Sensitivity | None:
        """What was measured for repairs."""
        return self._repair.sensitivity if self._repair else None

    @property
    def ended(self) -> str:
        """Why there was nothing left to propose; "" if there was."""
        return self._strategy.ended

    def next(self) -> Planned | None:
        """Propose a candidate; None if nothing is left that may win."""
        trial = self._strategy.next()
        if trial is None:
            return None
        mended = self._planned(trial.repairs).candidate.id if trial.repairs else None
        planned = self._planned(trial)
        self._trials[planned.candidate.id] = trial
        return Planned(planned.candidate, repairs=mended)

    def learn(self, result: CandidateResult, seconds: float) -> None:
        """Take in what came of a candidate.

        Args:
            result: as it ended, with its figures from the first look if it was measured.
            seconds: that it took; 0 if it was not built now, and then nothing is added to the history.
        """
        trial = self._trials.get(result.candidate.id) or self._trial(result)
        if trial is None:
            return
        self._results[trial.key] = result
        self._strategy.learn(trial, self._outcome(result))
        if seconds and not result.cached and self._history and self._about:
            self._history.add(self._entry(result, seconds, self._about))

    def rest(self) -> Iterator[tuple[Planned, str]]:
        """Return the chains that were not tried; the reason is "" where the turn never came."""
        for chain, reason in self._strategy.untried():
            yield self._planned(Trial(chain)), reason

    def _circumstances(self, catalogue: Catalogue) -> Circumstances | None:
        if catalogue.features is None:
            return None
        return Circumstances(
            features=catalogue.features,
            threads=self._config.threads,
            batch_sizes=self._config.batch_sizes,
            environment=environment().digest,
        )

    def _planned(self, trial: Trial) -> Planned:
        return Planned(trial.chain.candidate(trial.settings, self._identity))

    def _trial(self, result: CandidateResult) -> Trial | None:
        """The trial that a candidate of an earlier run was."""
        steps = " > ".join(step.name for step in result.candidate.recipe) or "source"
        chain = self._strategy.chain(f"{steps} @ {result.candidate.runtime.name}")
        return Trial(chain, chain.settings(result.candidate.recipe, result.candidate.runtime)) if chain else None

    def _mend(self, trial: Trial) -> Trial | None:
        result = self._results[trial.key]
        if self._repair is None or result.status in (CandidateStatus.FAILED, CandidateStatus.SKIPPED):
            return None
        with self._budget.on("repairs"):
            recipe = self._repair.after(result, self._budget.build_seconds)
        if recipe is None:
            return None
        return Trial(
            trial.chain, trial.chain.settings(recipe, result.candidate.runtime), repairs=trial.repairs or trial
        )

    def _outcome(self, result: CandidateResult) -> Outcome:
        if result.status in _ENDINGS or result.benchmark is None:
            return Outcome(lossy={outcome.rule for outcome in result.gate.refusals} == {FIDELITY})
        axis = policy_axes(self._config.policy, self._config.latency_limit_ms)[0]
        limit = self._config.latency_limit_ms if self._config.policy is Policy.MAX_THROUGHPUT_UNDER_LATENCY else None
        largest = latency_at_largest_batch(result).latency_p50_ms.estimate
        if not within_limit(result, limit):
            return Outcome(costs=(float("inf"), largest))
        figure = axis.measure(result).estimate
        return Outcome(costs=(1 / figure if axis.larger_is_better else figure, largest))

    def _entry(self, result: CandidateResult, seconds: float, about: Circumstances) -> Entry:
        ratio = None
        if result.benchmark and self._baseline.benchmark:
            ours, theirs = (latency_at_smallest_batch(one).latency_p50_ms.estimate for one in (result, self._baseline))
            ratio = ours / theirs
        return Entry(
            about=about,
            recipe=result.candidate.recipe,
            runtime=result.candidate.runtime,
            ratio=ratio,
            passed=result.status not in _ENDINGS,
            seconds=seconds,
        )


def _fulfil(promise: Future[Catalogue], job: CatalogueJob, workspace: Path, timeout_s: float) -> None:
    try:
        promise.set_result(describe(job, workspace, timeout_s))
    except BaseException as error:  # noqa: BLE001  it is raised where the promise is asked
        promise.set_exception(error)
