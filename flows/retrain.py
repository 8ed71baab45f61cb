"""Flow: train again on what was served lately, and hand the new model to ``optimize``."""

import asyncio
import shutil

from prefect import flow, get_run_logger
from prefect.deployments import arun_deployment
from prefect.runtime import flow_run

from flows import wiring
from flows.audited import audited
from flows.progress import queued
from flows.settings import StackSettings
from registry.errors import BurnishError, InputError, RegistryError
from registry.ledger.ledger import Ledger
from registry.ledger.tenants import Shortage
from registry.records.model import ModelVersion
from registry.records.optimization import OptimizationConfig, OptimizationRequest, OptimizationResult
from registry.records.release import Feedback
from registry.records.tenant import QualifiedName, split_name
from registry.store.base import ArtifactStore
from tasks.observe import join_labels, read_captured
from tasks.optimizer.output import RESULT_FILE
from tasks.retrain import train_again

OPTIMIZE = "optimize/optimize"


@flow(name="retrain", flow_run_name="retrain {model}")
async def retrain(model: QualifiedName | None = None, trainer: str | None = None) -> tuple[str, ...]:
    """Train a model again on its captured requests and their true answers; the new model goes the way of every other.

    Args:
        model: the model's name; none means every model that has labels as feedback, and those that fail are told last.
        trainer: ``module:function``, one of the setting ``trainers``; none means the first of them.

    Returns:
        The ids of the optimizations that were started.
    """
    settings = StackSettings()
    ledger = wiring.ledger(settings)
    try:
        names = (model,) if model else ledger.models()
        labelled = {name: tuple(told for told in ledger.feedback(name) if told.labels) for name in names}
    finally:
        ledger.close()
    wanted = {name: told for name, told in labelled.items() if told or model}
    if not wanted:
        get_run_logger().info("no model has labels as feedback; nothing to train on")
    started, failed = [], []
    for name, told in wanted.items():
        try:
            started.append(await _retrain(settings, name, told, trainer))
        except BurnishError as error:
            if model:
                raise
            failed.append(f"{name}: {error}")
    if failed:  # only now: one tenant's model keeps no other from being trained
        raise RegistryError(f"started {len(started)}; not trained again: {'; '.join(failed)}")
    return tuple(started)


async def _retrain(settings: StackSettings, model: str, feedback: tuple[Feedback, ...], trainer: str | None) -> str:
    tenant, name = split_name(model)
    ledger, source = wiring.ledger(settings), f"flow run {flow_run.get_id()}"
    try:
        with audited(ledger, tenant=tenant, actor="retrain", source=source, action="retrain", target=name) as evidence:
            _require_place(ledger.tenants.version_shortage(model))  # before minutes of training, not after them
            request = await _trained(settings, ledger, model, feedback, trainer)
            evidence.update(optimization=request.id, source=request.source)
            claim(ledger, wiring.artifacts(settings), request)
    finally:
        ledger.close()
    # A run of the deployment, not a call: optimizations queue there, one at a time.
    await arun_deployment(
        OPTIMIZE,
        parameters={"request": request.model_dump(mode="json")},
        timeout=0,
        as_subflow=False,
        idempotency_key=request.id,
    )
    return request.id


def claim(ledger: Ledger, artifacts: ArtifactStore, request: OptimizationRequest) -> None:
    """Let the new source count for the model's tenant, and note its optimization as begun, if the quotas allow both.

    Raises:
        InputError: a quota is used up; the message says which.
    """
    tenant, _ = split_name(request.model)
    size_bytes = artifacts.size_bytes(request.source)
    if not ledger.tenants.own(tenant, request.source, size_bytes):
        stored, limit = ledger.tenants.holdings(tenant).stored_bytes, ledger.tenants.get(tenant).quotas.stored_bytes
        _require_place(Shortage("stored_bytes", stored, limit or 0, size_bytes))
    _require_place(ledger.tenants.claim_version(queued(request)))


def _require_place(short: Shortage | None) -> None:
    if short is not None:
        raise InputError(f"{short}; the operator can raise it by `burnish tenant quota`")


async def _trained(
    settings: StackSettings, ledger: Ledger, model: str, feedback: tuple[Feedback, ...], trainer: str | None
) -> OptimizationRequest:
    artifacts, store = wiring.artifacts(settings), wiring.model_store(settings)
    route = ledger.route(model)
    if route is None:
        raise InputError(f"nothing of {model!r} is live, so there is nothing to train again; push it first")
    live = store.version(model, route.champion)
    config = _config_of(live, ledger, artifacts)
    captured = await read_captured(settings.capture_folder, model, None)
    known = await join_labels(captured, feedback)
    function = trainer or settings.trainers[0]
    with wiring.workspace(settings, f"retrain-{model}") as folder:
        path = await train_again(function, settings.trainers, known, live.draft.signature, folder)
        upload = folder / "upload"
        upload.mkdir()
        shutil.copyfile(path, upload / "model.pt2")
        source = await asyncio.to_thread(artifacts.put, upload)
    return OptimizationRequest(
        model=model,
        source=source,
        evaluation=live.draft.evaluation_set,
        calibration=live.draft.calibration_set,
        config=config,
    )


def _config_of(version: ModelVersion, ledger: Ledger, artifacts: ArtifactStore) -> OptimizationConfig:
    """What was asked of the search that made a version: the new model is searched in the same way."""
    result = ledger.optimization(version.draft.optimization_id).result
    if result is None:
        raise RegistryError(f"the search that made version {version.version} of {version.model} has left no result")
    text = (artifacts.checkout(result) / RESULT_FILE).read_text(encoding="utf-8")
    return OptimizationResult.model_validate_json(text).config
