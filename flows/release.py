"""Flows: promote and roll back, for the Prefect UI; both are one synchronous operation on the ledger."""

from prefect import flow
from prefect.runtime import flow_run

from flows import audited, wiring
from flows.settings import StackSettings
from registry.records.base import VersionNumber
from registry.records.change import Change, Promote, RollBack
from registry.records.release import Route
from registry.records.tenant import QualifiedName


@flow(name="release", flow_run_name="promote {model} version {version}")
async def release(model: QualifiedName, version: VersionNumber, reason: str = "asked for in Prefect") -> Route:
    """Make a registered version the champion of its model.

    Args:
        model: the model's name.
        version: the version that shall serve.
        reason: kept in the release history.
    """
    settings = StackSettings()
    ledger = wiring.ledger(settings)
    try:
        change = Change(model=model, step=Promote(version=version), actor="prefect", reason=reason)
        return audited.change_route(
            ledger, settings.catalog_folder, change, flow_run=flow_run.get_id(), evidence={"reason": reason}
        )
    finally:
        ledger.close()


@flow(name="rollback", flow_run_name="roll back {model}")
async def rollback(model: QualifiedName, reason: str = "asked for in Prefect") -> Route:
    """Return a model to the champion before the current one.

    Args:
        model: the model's name.
        reason: kept in the release history.
    """
    settings = StackSettings()
    ledger = wiring.ledger(settings)
    try:
        change = Change(model=model, step=RollBack(), actor="prefect", reason=reason)
        return audited.change_route(
            ledger, settings.catalog_folder, change, flow_run=flow_run.get_id(), evidence={"reason": reason}
        )
    finally:
        ledger.close()
