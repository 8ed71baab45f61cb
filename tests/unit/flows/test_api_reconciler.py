import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from errno import ENOSPC
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows import api_reconciler
from flows.api_app import build_app
from registry.ledger.ledger import Ledger
from registry.records.change import Promote
from registry.records.release import OptimizationState, OptimizationStatus
from registry.store.base import CHAMPION
from serving.engine.catalog import read_entry
from tests.drafts import change
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path)


def save(stack: FakeStack, state: OptimizationState, *, age_s: float = 0, flow_run: str | None = None) -> str:
    created = datetime.now(UTC) - timedelta(seconds=age_s)
    status = OptimizationStatus(
        id="1" * 32,
        model="digits",
        state=state,
        source="a" * 64,
        evaluation_set="b" * 64,
        flow_run=flow_run,
        created_at=created,
        updated_at=created,
    )
    stack.platform.ledger.save_optimization(status)
    return status.id


def test_catalog_is_repaired_at_start_even_without_mlflow(stack: FakeStack) -> None:
    stack.register()
    stack.platform.ledger.change_route(
        change(Promote(version=1), actor="test", reason="the process died before the rename")
    )
    stack.store.down = True
    catalog = stack.platform.settings.catalog_folder / "digits.json"
    assert not catalog.exists()
    with TestClient(build_app(stack.platform)) as api:
        await_(lambda: bool(api.get("/v1/status").json()["notes"]))
        status = api.get("/v1/status").json()
        assert read_entry(catalog).generation == 1
        assert status["models"] == 1
        assert "MLflow does not answer" in status["mirrors"]
        assert api.get("/v1/health").json() == {"status": "ok"}
    assert not stack.platform.reconciler.running


def test_a_promotion_sets_its_alias_without_a_round_over_all(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_reconciler, "GATHER_S", 0.0)
    stack.register()
    with TestClient(build_app(stack.platform)) as api:
        await_(lambda: stack.platform.reconciler.findings.mirrors == "in step")
        monkeypatch.setattr(stack.platform.reconciler, "look", lambda **_: 1 / 0)
        assert api.post("/v1/models/digits/promote", json={"version": 1}).status_code == 200
        await_(lambda: stack.store.alias("digits", CHAMPION) == 1)
        assert stack.platform.reconciler.running
        stack.store.down = True
        api.put("/v1/models/digits/policy", json={"policy": {"pinned": True}})
        await_(lambda: api.get("/v1/status").json()["mirrors"].startswith("cannot be looked at"))


def await_(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_health_is_503_when_the_reconciler_has_stopped(stack: FakeStack) -> None:
    with TestClient(build_app(stack.platform)) as api:
        stack.platform.reconciler.stop()
        assert api.get("/v1/health").status_code == 503


@pytest.mark.parametrize("ended", ["CRASHED", "CANCELLED", "FAILED"])
def test_optimization_whose_flow_run_died_is_closed(stack: FakeStack, ended: str) -> None:
    identifier = save(stack, OptimizationState.RUNNING, flow_run="run-0")
    stack.platform.deployments.start("optimize", {}, key="another key")
    stack.prefect.end(ended)
    found = stack.platform.reconciler.look()
    status = stack.platform.ledger.optimization(identifier)
    assert status.state is OptimizationState.FAILED
    assert ended.title() in status.message
    assert any(identifier in note for note in found.notes)


@pytest.mark.parametrize(
    ("state", "age_s", "expected"),
    [
        (OptimizationState.QUEUED, 10, OptimizationState.QUEUED),
        (OptimizationState.QUEUED, 100, OptimizationState.FAILED),
        (OptimizationState.RUNNING, 100, OptimizationState.RUNNING),
        (OptimizationState.RELEASED, 100, OptimizationState.RELEASED),
    ],
)
def test_optimization_without_a_flow_run(
    stack: FakeStack, state: OptimizationState, age_s: float, expected: OptimizationState
) -> None:
    identifier = save(stack, state, age_s=age_s)
    stack.platform.reconciler.look()
    assert stack.platform.ledger.optimization(identifier).state is expected


@pytest.mark.parametrize("alive", ["SCHEDULED", "RUNNING", "COMPLETED"])
def test_optimization_whose_flow_run_did_not_fail_is_left_alone(stack: FakeStack, alive: str) -> None:
    identifier = save(stack, OptimizationState.RUNNING, age_s=1000)
    stack.platform.deployments.start("optimize", {}, key=identifier)
    stack.prefect.end(alive)
    stack.platform.reconciler.look()
    assert stack.platform.ledger.optimization(identifier).state is OptimizationState.RUNNING


def test_prefect_down_is_a_note_and_closes_nothing(stack: FakeStack) -> None:
    identifier = save(stack, OptimizationState.QUEUED, age_s=1000)
    stack.prefect.down = True
    (note,) = stack.platform.reconciler.look().notes
    assert "Prefect does not answer" in note
    assert stack.platform.ledger.optimization(identifier).state is OptimizationState.QUEUED


def test_a_round_without_ledger_or_disk_is_a_note_and_the_next_one_follows(stack: FakeStack, tmp_path: Path) -> None:
    stack.register()
    no_folder = tmp_path / "file"
    no_folder.touch()
    away = Ledger("postgresql+psycopg://nobody@127.0.0.1:9/none")
    for ledger, folder, told in (
        (away, stack.platform.settings.catalog_folder, "did not answer"),
        (stack.platform.ledger, no_folder / "catalog", "Not a directory"),
    ):
        followed = api_reconciler.Reconciler(ledger, stack.store, stack.platform.deployments, folder)
        (note,) = followed.look().notes
        assert told in note


def test_a_disk_that_is_full_while_an_alias_follows_is_a_note(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    following = stack.platform.reconciler
    monkeypatch.setattr("flows.following.mirror", full)
    following._changed.add("digits")
    found = following.follow()
    assert [note for note in found.notes if "No space left" in note]
    assert "No space left" in found.mirrors


def test_what_others_tell_is_among_the_notes_of_a_round(stack: FakeStack) -> None:
    platform, refused = stack.platform, "the gateway has refused 2 updates (cds.update_rejected)"
    folder = platform.settings.catalog_folder
    telling = api_reconciler.Reconciler(
        platform.ledger, stack.store, platform.deployments, folder, told=(lambda: (refused,),)
    )
    assert refused in telling.look().notes
