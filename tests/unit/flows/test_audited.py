"""What flows do with a route is in the audit of its tenant, refused or done, with what it was decided on."""

from pathlib import Path

import pytest
from pydantic import JsonValue

from flows import audited
from registry.errors import ModelNotFound
from registry.records.change import Promote
from registry.records.tenant import Quotas
from serving.engine.catalog import read_entry
from tests.drafts import change
from tests.unit.flows.api_stack import fake_stack


def test_a_flows_promotion_is_audited_refused_or_done(tmp_path: Path) -> None:
    stack = fake_stack(tmp_path)
    ledger, catalog = stack.platform.ledger, stack.platform.settings.catalog_folder
    ledger.tenants.add("acme", Quotas())
    stack.register("acme.m")
    evidence: dict[str, JsonValue] = {"optimization": "1" * 32, "gate": ["fidelity: pass"]}
    for version in (1, 2):
        asked = change(Promote(version=version), model="acme.m", actor="optimization 1", reason="fidelity: equal")
        if version == 1:
            audited.change_route(ledger, catalog, asked, flow_run="run-7", evidence=evidence)
        else:
            with pytest.raises(ModelNotFound):
                audited.change_route(ledger, catalog, asked, flow_run="run-8", evidence=evidence)
    assert read_entry(catalog / "acme.m.json").generation == 1
    refused, done = ledger.audit.entries(tenant="acme", limit=10)
    assert (done.actor, done.source, done.action, done.target) == ("optimization 1", "flow run run-7", "promote", "m")
    assert (done.outcome, refused.outcome, refused.source) == ("done", "ModelNotFound", "flow run run-8")
    assert done.evidence == evidence | {"generation": 1, "champion": 1, "artifacts": {"1": "a" * 64}}
    assert refused.evidence == evidence
    assert ledger.audit.verify().broken is None
