"""Build one candidate: from the cache, or in a child process starting from the longest recipe that is cached."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from registry.errors import CandidateError
from registry.records.gate import RuleOutcome
from registry.records.model import PluginConfig
from registry.records.optimization import Candidate, OptimizationConfig
from serving.runtime import Arrays
from tasks.optimizer.base import Artifact
from tasks.optimizer.cache import Cache
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.identity import Identity
from tasks.optimizer.isolation import CANDIDATE_CHILD, Limits, run_child
from tasks.optimizer.job import ARTIFACT_FOLDER, PREDICTIONS_FILE, CandidateJob, CandidateOutcome, PlacedArtifact
from tasks.optimizer.reproduce import write_script

_OUTCOME_FILE = "outcome.json"
_ABOUT_FILE = "about.json"


@dataclass(frozen=True)
class Built:
    """A candidate that was built and has answered every evaluation sample."""

    artifact: Artifact
    predictions: Arrays
    invariance: RuleOutcome
    seconds: float
    cached: bool


@dataclass(frozen=True)
class Workshop:
    """What all candidates of a search are built with."""

    source: Artifact
    evaluation: Path
    """Inputs as ``.npz``."""
    evaluation_digest: str
    calibration: Path | None
    config: OptimizationConfig
    identity: Identity
    cache: Cache
    source_code: str | None = None
    """``FILE.py:FUNCTION``."""

    def build(self, candidate: Candidate, folder: Path, timeout_s: float) -> Built:
        """Build a candidate in a folder of its own, which then holds ``artifact/``, the log and ``reproduce.py``.

        Raises:
            CandidateError: it could not be built or run; the message says why and where the log is.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        whole = self._job(candidate, PlacedArtifact.of(self.source), candidate.recipe, timeout_s)
        write_script(folder, whole, candidate.label, self.config.candidate_memory_mib)
        key = self.identity.evaluation_key(candidate, self.evaluation_digest, max(self.config.batch_sizes))
        evaluated = self.cache.get(key)
        product, left = self._start(candidate.recipe)
        if evaluated and not left:
            return _place(product, evaluated, folder, cached=True)
        job = self._job(candidate, product, left, timeout_s)
        limits = Limits(timeout_s, self.config.candidate_memory_mib, threads=job.threads)
        work = folder / "work"
        work.mkdir()
        try:
            value = run_child(CANDIDATE_CHILD, job.model_dump(mode="json"), workspace=work, limits=limits)
            outcome = CandidateOutcome.model_validate(value)
            self._keep_products(candidate.recipe, outcome)
            self.cache.put(key, _evaluation(work, outcome))
            return _place(outcome.products[-1] if outcome.products else product, work, folder, cached=False)
        finally:
            for path in work.iterdir():  # the log and the answer stay
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)

    def _job(
        self, candidate: Candidate, start: PlacedArtifact, steps: tuple[PluginConfig, ...], timeout_s: float
    ) -> CandidateJob:
        return CandidateJob(
            source=PlacedArtifact.of(self.source),
            start=start,
            steps=steps,
            runtime=candidate.runtime,
            evaluation=str(self.evaluation.absolute()),
            calibration=str(self.calibration.absolute()) if self.calibration else None,
            source_code=self.source_code,
            check_invariance=True,
            largest_batch=max(self.config.batch_sizes),
            seed=self.config.seed,
            threads=os.cpu_count() or 1,
            serving_threads=self.config.threads,
            timeout_s=timeout_s,
        )

    def _start(self, recipe: tuple[PluginConfig, ...]) -> tuple[PlacedArtifact, tuple[PluginConfig, ...]]:
        """The product of the longest cached part of a recipe, and the steps that are left."""
        for done in range(len(recipe), 0, -1):
            entry = self.cache.get(self.identity.build_key(recipe[:done]))
            if entry:
                about = PlacedArtifact.model_validate_json((entry / _ABOUT_FILE).read_text(encoding="utf-8"))
                return about.model_copy(update={"folder": str(entry / ARTIFACT_FOLDER)}), recipe[done:]
        return PlacedArtifact.of(self.source), recipe

    def _keep_products(self, recipe: tuple[PluginConfig, ...], outcome: CandidateOutcome) -> None:
        first = len(recipe) - len(outcome.products) + 1
        for done, product in enumerate(outcome.products, start=first):
            self.cache.put(self.identity.build_key(recipe[:done]), _product(product))


def _product(product: PlacedArtifact) -> Callable[[Path], None]:
    def fill(entry: Path) -> None:
        shutil.copytree(product.folder, entry / ARTIFACT_FOLDER)
        (entry / _ABOUT_FILE).write_text(product.model_dump_json(), encoding="utf-8")

    return fill


def _evaluation(work: Path, outcome: CandidateOutcome) -> Callable[[Path], None]:
    (work / _OUTCOME_FILE).write_text(outcome.model_dump_json(), encoding="utf-8")

    def fill(entry: Path) -> None:
        for name in (PREDICTIONS_FILE, _OUTCOME_FILE):
            shutil.copy(work / name, entry / name)

    return fill


def _place(product: PlacedArtifact, evaluated: Path, folder: Path, *, cached: bool) -> Built:
    """Copy the product to ``artifact/`` and read the evaluation."""
    outcome = CandidateOutcome.model_validate_json((evaluated / _OUTCOME_FILE).read_text(encoding="utf-8"))
    if outcome.invariance is None:
        raise CandidateError("the candidate's child did not check whether answers depend on the batch")
    shutil.copytree(product.folder, folder / ARTIFACT_FOLDER)
    return Built(
        artifact=Artifact(folder / ARTIFACT_FOLDER, product.format, product.signature),
        predictions=load_arrays(evaluated / PREDICTIONS_FILE),
        invariance=outcome.invariance,
        seconds=sum(outcome.step_seconds) + outcome.run_seconds,
        cached=cached,
    )
