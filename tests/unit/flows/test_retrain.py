"""Training again: bounded by the tenant's quotas as a version made by hand is, and audited."""

import asyncio
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows import retrain, wiring
from flows.api_app import build_app
from flows.settings import StackSettings
from registry.errors import InputError
from registry.ledger.ledger import Ledger
from registry.records.optimization import OptimizationRequest
from registry.records.release import OptimizationState
from registry.records.tenant import Quotas
from registry.store.artifacts_local import LocalArtifacts
from tests.unit.flows.api_stack import fake_stack

MODEL = "acme.m"
SIZE_BYTES = 1000


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    return StackSettings(home=tmp_path)


@pytest.fixture
def ledger(settings: StackSettings, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The stack's ledger, with a training that leaves a source of ``SIZE_BYTES`` behind."""
    made = wiring.ledger(settings)
    made.tenants.add("acme", Quotas())

    async def trained(*_: object) -> OptimizationRequest:
        folder = settings.home / "new"
        folder.mkdir(exist_ok=True)
        (folder / "model.pt2").write_bytes(b"x" * SIZE_BYTES)
        source = LocalArtifacts(settings.artifacts_folder).put(folder)
        return OptimizationRequest(model=MODEL, source=source, evaluation=source)

    async def run(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(retrain, "_trained", trained)
    monkeypatch.setattr(retrain, "arun_deployment", run)
    return made


def train(settings: StackSettings) -> str:
    return asyncio.run(retrain._retrain(settings, MODEL, (), None))


def test_what_was_trained_counts_for_its_tenant_and_is_in_its_audit(settings: StackSettings, ledger: Ledger) -> None:
    begun = ledger.optimization(train(settings))
    assert (begun.state, begun.model) == (OptimizationState.QUEUED, MODEL)
    assert ledger.tenants.holdings("acme").stored_bytes == SIZE_BYTES
    (entry,) = ledger.audit.entries(tenant="acme", limit=10)
    assert (entry.actor, entry.action, entry.target, entry.outcome) == ("retrain", "retrain", "m", "done")
    assert entry.evidence == {"optimization": begun.id, "source": begun.source}


@pytest.mark.parametrize(
    ("quotas", "said"),
    [
        (Quotas(models=0), "the quota models of this tenant is used up: 0 of 0, and 1 more asked"),
        (Quotas(versions=0), "the quota versions of this tenant is used up: 0 of 0, and 1 more asked"),
        (Quotas(stored_bytes=999), "the quota stored_bytes of this tenant is used up: 0 of 999, and 1000 more asked"),
    ],
)
def test_a_used_up_quota_refuses_it_with_nothing_begun(
    settings: StackSettings, ledger: Ledger, quotas: Quotas, said: str
) -> None:
    ledger.tenants.set_quotas("acme", quotas)
    with pytest.raises(InputError, match=said):
        train(settings)
    assert (ledger.optimizations(), ledger.tenants.holdings("acme").stored_bytes) == ((), 0)
    (entry,) = ledger.audit.entries(tenant="acme", limit=10)
    assert (entry.action, entry.outcome) == ("retrain", "InputError")


def test_the_control_api_starts_no_training_for_which_there_is_no_place(tmp_path: Path) -> None:
    stack = fake_stack(tmp_path)
    stack.register()
    stack.platform.ledger.tenants.set_quotas("default", Quotas(versions=1))
    with TestClient(build_app(stack.platform)) as api:
        refused = api.post("/v1/models/digits/retrain", json={})
    assert (refused.status_code, "the quota versions of this tenant is used up: 1 of 1" in refused.text) == (403, True)
    (entry,) = stack.platform.ledger.audit.entries(tenant="default", limit=10)
    assert (entry.action, entry.outcome, stack.prefect.runs) == ("retrain", "403", [])
