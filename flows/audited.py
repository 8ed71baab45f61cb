"""The audit of what is done beside the control API: by the command line on the ledger, and by flows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from flows import releases
from registry.errors import BurnishError
from registry.ledger.ledger import Ledger
from registry.records.audit import AuditDraft
from registry.records.change import Change
from registry.records.release import Route
from registry.records.tenant import split_name


@contextmanager
def audited(
    ledger: Ledger, *, tenant: str, actor: str, source: str, action: str, target: str
) -> Iterator[dict[str, JsonValue]]:
    """Append what is done in this context to the audit, refused or done; yield what its evidence is put into."""
    evidence: dict[str, JsonValue] = {}
    outcome = "done"
    try:
        yield evidence
    except BurnishError as error:
        outcome = type(error).__name__
        raise
    finally:
        draft = AuditDraft(
            tenant=tenant,
            actor=actor,
            source=source,
            action=action,
            target=target,
            outcome=outcome,
            evidence=evidence,
        )
        ledger.audit.append(draft)


def change_route(
    ledger: Ledger, catalog_folder: Path, change: Change, *, flow_run: str | None, evidence: dict[str, JsonValue]
) -> Route:
    """Change a route for a flow, in the ledger, in the catalog and in its tenant's audit, refused or done.

    Args:
        ledger: the ledger.
        catalog_folder: the folder that the engine watches.
        change: the step, by whom and why.
        flow_run: Prefect's id of the run.
        evidence: on what the flow decided.

    Raises:
        BurnishError: what the ledger refuses.
    """
    tenant, model = split_name(change.model)
    source = f"flow run {flow_run}"
    with audited(
        ledger, tenant=tenant, actor=change.actor, source=source, action=change.step.action.value, target=model
    ) as told:
        told.update(evidence)
        route = releases.change_route(ledger, catalog_folder, change)
        told.update(releases.evidence_of(ledger, route))
    return route
