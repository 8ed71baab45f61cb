from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.progress import Cancelled, Progress, close_abandoned, close_cancelled
from registry.records.model import ArtifactFormat, PluginConfig
from registry.records.optimization import Candidate, CandidateResult, CandidateStatus, OptimizationRequest
from registry.records.release import OptimizationState
from tasks.optimizer.base import Artifact
from tasks.optimizer.output import Output
from tests.drafts import SIGNATURE
from tests.unit.flows.api_stack import FakeStack, fake_stack

REQUEST = OptimizationRequest(model="digits", source="a" * 64, evaluation="b" * 64)


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path)


def cancel(stack: FakeStack) -> None:
    ledger = stack.platform.ledger
    wanted = {"state": OptimizationState.CANCELLING, "updated_at": datetime.now(UTC)}
    ledger.save_optimization(ledger.optimization(REQUEST.id).model_copy(update=wanted))


def test_a_cancelled_optimization_stops_at_its_next_step(stack: FakeStack) -> None:
    ledger = stack.platform.ledger
    progress = Progress(ledger, REQUEST, "run-1")
    progress.stage("intake")
    cancel(stack)
    with pytest.raises(Cancelled):
        progress.stage("candidates")
    status = ledger.optimization(REQUEST.id)
    assert (status.state, status.stage) == (OptimizationState.CANCELLING, "intake")
    with pytest.raises(Cancelled):
        Progress(ledger, REQUEST, "run-2")


def test_what_was_released_before_the_cancelling_came_stands(stack: FakeStack) -> None:
    progress = Progress(stack.platform.ledger, REQUEST, "run-1")
    cancel(stack)
    progress.end(OptimizationState.RELEASED, "version 1 is live", version=1)
    cancel(stack)
    assert stack.platform.ledger.optimization(REQUEST.id).state is OptimizationState.RELEASED


def test_the_best_until_then_is_kept(stack: FakeStack, tmp_path: Path) -> None:
    platform = stack.platform
    progress = Progress(platform.ledger, REQUEST, "run-1")
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    recipe = Candidate(
        id="1" * 64, recipe=(PluginConfig(name="export_onnx"),), runtime=PluginConfig(name="onnxruntime")
    )
    result = CandidateResult(candidate=recipe, status=CandidateStatus.BUILT)
    Output(tmp_path / "search").write_best(result, Artifact(folder, ArtifactFormat.ONNX, SIGNATURE))
    cancel(stack)
    close_cancelled(platform.ledger, platform.artifacts, tmp_path, progress.status)
    status = platform.ledger.optimization(REQUEST.id)
    assert (status.state, status.best is not None) == (OptimizationState.CANCELLED, True)
    assert "export_onnx @ onnxruntime" in status.message
    late = status.model_copy(update={"best": None, "message": "cancelled before it began"})
    assert platform.ledger.save_optimization(late) == platform.ledger.optimization(REQUEST.id) == status
    assert (platform.artifacts.checkout(str(status.best)) / "model.onnx").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("asked", "prefect", "state"),
    [
        (False, False, OptimizationState.FAILED),
        (False, True, OptimizationState.CANCELLED),
        (True, False, OptimizationState.CANCELLED),
    ],
)
def test_a_run_that_ended_early_is_closed_as_what_it_was(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch, asked: bool, prefect: bool, state: OptimizationState
) -> None:
    monkeypatch.setenv("BURNISH_HOME", str(stack.platform.settings.home))
    Progress(stack.platform.ledger, REQUEST, "run-1")
    if asked:
        cancel(stack)
    ended = SimpleNamespace(name="Crashed", message="signal 15", is_cancelled=lambda: prefect)
    run = SimpleNamespace(parameters={"request": {"id": REQUEST.id}})
    close_abandoned(None, run, ended)
    close_abandoned(None, run, ended)
    assert stack.platform.ledger.optimization(REQUEST.id).state is state
