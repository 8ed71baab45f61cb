"""The child process of one candidate: apply the passes, load the product, run the evaluation inputs."""

import time
from pathlib import Path
from typing import Any

from registry.errors import CandidateError
from registry.records.gate import RuleOutcome
from registry.records.model import PluginConfig
from serving.runtime import build_runtime
from tasks.gates.invariance import check_batch_invariance
from tasks.optimizer.base import Artifact, PassContext, build_pass
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.evaluate import load_arrays, predict_all
from tasks.optimizer.isolation import answer
from tasks.optimizer.job import PREDICTIONS_FILE, CandidateJob, CandidateOutcome, PlacedArtifact


def run_candidate(job_json: dict[str, Any], workspace: Path) -> dict[str, Any]:
    """Build and run one candidate; predictions are written to ``predictions.npz`` in the workspace.

    Raises:
        CandidateError: a pass or the runtime cannot do it.
    """
    job = CandidateJob.model_validate(job_json)
    deadline = time.time() + job.timeout_s
    calibration = load_arrays(Path(job.calibration)) if job.calibration else {}
    artifact, products, seconds = job.start.artifact, [], []
    for number, step in enumerate(job.steps, start=1):
        started = time.monotonic()
        folder = workspace / f"{number}-{step.name}"
        folder.mkdir(parents=True)
        context = PassContext(
            workspace=folder,
            source=job.source.artifact,
            calibration=calibration,
            source_code=job.source_code,
            seed=job.seed,
            threads=job.threads,
            serving_threads=job.serving_threads,
            deadline=deadline,
        )
        artifact = _apply(step, artifact, context)
        products.append(PlacedArtifact.of(artifact))
        seconds.append(time.monotonic() - started)
    started = time.monotonic()
    invariance = _run(job, artifact, workspace)
    return CandidateOutcome(
        products=tuple(products),
        invariance=invariance,
        step_seconds=tuple(seconds),
        run_seconds=time.monotonic() - started,
    ).model_dump(mode="json")


def _apply(step: PluginConfig, artifact: Artifact, context: PassContext) -> Artifact:
    product = build_pass(step).apply(artifact, context)
    if not product.folder.resolve().is_relative_to(context.workspace.resolve()):
        raise CandidateError(f"the pass {step.name} wrote its product to {product.folder}, outside of its workspace")
    if not product.file.is_file():
        raise CandidateError(f"the pass {step.name} did not write {product.file.name}")
    product.ref()  # refuses links
    return product


def _run(job: CandidateJob, artifact: Artifact, workspace: Path) -> RuleOutcome | None:
    session = build_runtime(job.runtime).load(artifact.folder, artifact.format, artifact.signature)
    try:
        inputs = load_arrays(Path(job.evaluation))
        save_dataset(Dataset(predict_all(session, inputs)), workspace / PREDICTIONS_FILE)
        if not job.check_invariance:
            return None
        return check_batch_invariance(session, inputs, largest_batch=job.largest_batch, seed=job.seed)
    finally:
        session.close()


if __name__ == "__main__":
    answer(run_candidate)
