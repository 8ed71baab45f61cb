"""The composition root: builds stores and ledger from the stack's settings."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from flows.settings import StackSettings
from flows.tenants import KeyRing
from flows.workers import Workers
from registry.ledger.ledger import Ledger
from registry.store.base import ArtifactStore, ModelStore
from registry.store.location import ArtifactLocation
from registry.store.mlflow import MlflowStore

DOOR_TIMEOUT_S = 1.0
ACKNOWLEDGE_S = 15.0


def artifact_location(settings: StackSettings) -> ArtifactLocation:
    """Return where the stack keeps its artifacts."""
    return ArtifactLocation(
        folder=settings.artifacts_folder, url=settings.artifacts_url, s3_endpoint_url=settings.s3_endpoint_url
    )


def artifacts(settings: StackSettings) -> ArtifactStore:
    """Return the stack's artifact store.

    Raises:
        InputError: ``artifacts_url`` is not the URL of a bucket.
    """
    return artifact_location(settings).open()


def ledger(settings: StackSettings) -> Ledger:
    """Return the stack's ledger, its tables made or upgraded.

    Raises:
        InputError: ``ledger_url`` cannot be used.
        TransientError: the database cannot be reached.
    """
    opened = Ledger(settings.ledger_database)
    opened.migrate()
    return opened


def key_ring(settings: StackSettings, opened: Ledger) -> KeyRing:
    """Return the keys of the stack's tenants, by its ledger and its gateway."""
    return KeyRing(opened, settings.gateway_folder, require_keys=settings.require_keys)


def model_store(settings: StackSettings) -> ModelStore:
    """Return the stack's model store; the MLflow server is asked at the first call only."""
    return MlflowStore(settings.mlflow_url, artifact_location(settings))


def workers(settings: StackSettings) -> Workers:
    """Return the engine's workers, by the addresses of their doors."""
    doors = [settings.door_url(worker) for worker in range(settings.workers)]
    return Workers(httpx.Client(timeout=DOOR_TIMEOUT_S, trust_env=False), doors, wait_s=ACKNOWLEDGE_S)


@contextmanager
def workspace(settings: StackSettings, name: str) -> Iterator[Path]:
    """Make a folder for one piece of work below the stack's home, and remove it afterwards."""
    settings.work_folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=settings.work_folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
