"""Steps: take a source in, load its sets, check their quality."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from monitoring.quality import check_datasets, require_quality
from registry.records.observation import DataQuality
from registry.records.optimization import OptimizationRequest
from registry.store.base import ArtifactStore
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import Dataset, load_dataset
from tasks.optimizer.source import take_in
from tasks.step import step
from tasks.upload import uploaded_file


@dataclass(frozen=True)
class Sets:
    """The evaluation set, and the calibration set where there is one."""

    evaluation: Dataset
    calibration: Dataset | None


@step("intake")
async def take_in_source(request: OptimizationRequest, artifacts: ArtifactStore, workspace: Path) -> Artifact:
    """Read the uploaded model safely and keep Burnish's own re-saved copy in the artifact store.

    Raises:
        InputError: the upload is not a model that can be taken in.
    """
    upload = await asyncio.to_thread(uploaded_file, artifacts, request.source)
    source = await asyncio.to_thread(take_in, upload, workspace / "source")
    await asyncio.to_thread(artifacts.put, source.folder)
    return source


@step("load sets")
async def load_sets(request: OptimizationRequest, source: Artifact, artifacts: ArtifactStore) -> Sets:
    """Load the evaluation and calibration sets against the source's signature.

    Raises:
        InputError: a set does not fit the model.
    """

    def load(digest: str) -> Dataset:
        return load_dataset(uploaded_file(artifacts, digest), source.signature)

    evaluation = await asyncio.to_thread(load, request.evaluation)
    calibration = await asyncio.to_thread(load, request.calibration) if request.calibration else None
    return Sets(evaluation=evaluation, calibration=calibration)


@step("check data quality")
async def check_quality(source: Artifact, sets: Sets) -> tuple[DataQuality, ...]:
    """Run the data checks.

    Raises:
        InputError: a check failed; the message names every failed check.
    """
    checked = await asyncio.to_thread(
        check_datasets,
        source.signature,
        sets.evaluation.inputs,
        sets.calibration.inputs if sets.calibration else None,
        sets.evaluation.labels,
    )
    require_quality(checked)
    return checked
