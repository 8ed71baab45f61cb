"""What a search is asked, and the workshop that is set up from it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from registry.digest import json_digest
from registry.records.optimization import OptimizationConfig
from tasks.bench.environment import environment
from tasks.optimizer.base import Artifact
from tasks.optimizer.build import Workshop
from tasks.optimizer.cache import Cache
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.identity import Identity


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
    """The folder to write: new, empty, or of an earlier search. One that was interrupted is gone on with, of any other
    one only the cache is used."""
    cache: Path
    history: Path | None = None
    """The file of what candidates did in earlier searches; None: nothing is learned and nothing is kept."""
    used_s: float = 0.0
    """Seconds of the budget that were used before the search, to take the model in."""
    source_code: str | None = None
    """``FILE.py:FUNCTION`` that makes the source as an ``nn.Module``; only on a user's own machine."""


def request_digest(request: SearchRequest, identity: Identity) -> str:
    """Return the digest of all that decides what a search finds, but not of the time that it may take."""
    return json_digest(
        {
            "source": identity.source,
            "source_code": identity.source_code,
            "evaluation": request.evaluation_digest,
            "calibration": request.calibration_digest,
            "config": request.config.model_dump(mode="json", exclude={"budget_minutes"}),
            "environment": environment().digest,
        }
    )


def fill_workshop(request: SearchRequest, out: Path, identity: Identity) -> Workshop:
    """Copy source and sets below the output folder, so that every candidate can be reproduced from it alone."""
    inputs = out / "inputs"
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
        source_code=request.source_code,
    )
