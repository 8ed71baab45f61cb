"""Steps: compare what was captured with the evaluation set, and keep the report with the version."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from monitoring.drift import Reference, drift_report
from monitoring.request_log import Query, Window, labelled, read_window
from registry.ledger.ledger import Ledger
from registry.records.model import ModelVersion
from registry.records.observation import DriftReport
from registry.records.release import Feedback
from registry.store.base import ArtifactStore, ModelStore
from serving.runtime import Array
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import load_dataset
from tasks.optimizer.isolation import predict
from tasks.step import step
from tasks.upload import uploaded_file

PREDICT_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Labelled:
    """Captured samples and the true answers that came for them."""

    window: Window
    labels: Array


@dataclass(frozen=True)
class ReportFolders:
    """Where a drift report is written: the pages that are kept, and what is not."""

    pages: Path
    work: Path


@step("read captured requests")
async def read_captured(capture_folder: Path, model: str, version: int | None) -> Window:
    """Read the latest captured samples of a model, or of one version of it.

    Raises:
        InputError: nothing was captured.
    """
    return await asyncio.to_thread(read_window, capture_folder, model, Query(version=version))


@step("join with labels")
async def join_labels(window: Window, feedback: tuple[Feedback, ...]) -> Labelled:
    """Keep the samples whose true answer is known.

    Raises:
        InputError: none is.
    """
    return Labelled(*await asyncio.to_thread(labelled, window, feedback))


@step("drift report")
async def compare_with_evaluation_set(
    version: ModelVersion, window: Window, artifacts: ArtifactStore, workspace: Path
) -> DriftReport:
    """Compare captured inputs and answers with the version's evaluation set; keep the pages in the artifact store.

    Raises:
        InputError: too few samples were captured.
    """
    folders = ReportFolders(pages=workspace / "pages", work=workspace / "work")
    report = await asyncio.to_thread(_compare, version, window, artifacts, folders)
    digest = await asyncio.to_thread(artifacts.put, folders.pages)
    return report.model_copy(update={"report": digest})


def _compare(version: ModelVersion, window: Window, artifacts: ArtifactStore, folders: ReportFolders) -> DriftReport:
    draft = version.draft
    evaluation = load_dataset(uploaded_file(artifacts, draft.evaluation_set), draft.signature)
    artifact = Artifact(artifacts.checkout(draft.artifact.sha256), draft.artifact.format, draft.signature)
    answers = predict(artifact, draft.runtime, evaluation.inputs, folders.work, timeout_s=PREDICT_TIMEOUT_S)
    return drift_report(
        model=version.model,
        version=version.version,
        reference=Reference(evaluation.inputs, answers),
        current=window,
        folder=folders.pages,
    )


@step("keep drift report")
async def keep_report(report: DriftReport, artifacts: ArtifactStore, store: ModelStore, ledger: Ledger) -> None:
    """Keep a drift report in the ledger and with its version in the registry."""
    await asyncio.to_thread(ledger.add_drift_report, report)
    if report.report:
        folder = await asyncio.to_thread(artifacts.checkout, report.report)
        name = f"drift-{report.created_at:%Y%m%dT%H%M%S}"
        await asyncio.to_thread(store.attach, report.model, report.version, name, folder)
