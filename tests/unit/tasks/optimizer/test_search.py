"""The search over passes that go wrong in many ways, run in this process with a made-up stopwatch."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from registry.errors import CandidateError, InputError
from registry.records.optimization import (
    CandidateResult,
    CandidateStatus,
    OptimizationConfig,
    OptimizationResult,
    Policy,
)
from tasks.optimizer.dataset import Dataset
from tasks.optimizer.output import read_best
from tests.unit.tasks.optimizer.odd_passes import odd_passes
from tests.unit.tasks.optimizer.odd_search import Run, made_up_benchmark, request, run_here, search

HERE = ("quick", "slow", "wrong", "mates", "refuses", "stumbles", "escapes", "links", "broken")
CONFIG = OptimizationConfig(passes=HERE, runtimes=("onnxruntime",))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("search")
    with odd_passes(folder / "plugins"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.optimizer.measurement.benchmark", made_up_benchmark)
        patch.setattr("tasks.optimizer.build.run_child", run_here)
        patch.setattr("tasks.optimizer.catalogue.run_child", run_here)
        patch.setattr("tasks.optimizer.search.explained", lambda judged, *_: judged)
        yield search(request(folder, CONFIG))


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("slow", CandidateStatus.MEASURED, "the winner's 0.50"),
        ("wrong", CandidateStatus.REFUSED, "fidelity: lost"),
        ("mates", CandidateStatus.REFUSED, "batch_invariant: "),
        ("refuses", CandidateStatus.FAILED, "there is nothing to do here"),
        ("stumbles", CandidateStatus.FAILED, "KeyError: 'layer'"),
        ("escapes", CandidateStatus.FAILED, "outside of its workspace"),
        ("links", CandidateStatus.FAILED, "neither a regular file nor a folder"),
        ("broken", CandidateStatus.FAILED, "onnx"),
    ],
)
def test_every_ending_of_a_candidate_is_recorded_with_its_reason(
    run: Run, name: str, status: CandidateStatus, said: str
) -> None:
    assert run.of(name).status is status
    assert said in run.of(name).reason


def test_the_quickest_right_candidate_wins_and_lies_in_best(run: Run) -> None:
    winner = run.result.chosen
    assert winner == run.of("quick")
    assert winner.on_front
    found = read_best(run.request.out)
    assert found is not None
    best, artifact = found
    assert best.candidate == winner.candidate
    assert best.artifact == winner.artifact == artifact.ref()
    assert winner.folder is not None
    assert (run.request.out / winner.folder / "artifact" / "model.onnx").is_file()


def test_wrong_and_failed_candidates_are_never_measured(run: Run) -> None:
    measured = {item for items in run.benchmarked for item in items}
    assert measured == {
        one.candidate.id for one in run.result.candidates if one.baseline or one.status is CandidateStatus.MEASURED
    }


def test_every_candidate_is_told_as_pending_when_it_is_proposed_and_last_as_it_ended(run: Run) -> None:
    first: dict[str, CandidateStatus] = {}
    for event in run.events:
        first.setdefault(event.candidate.id, event.status)
    assert set(first.values()) == {CandidateStatus.PENDING}
    last = {event.candidate.id: event for event in run.events}
    assert tuple(last.values()) == run.result.candidates


def test_the_files_say_what_was_returned(run: Run) -> None:
    out = run.request.out
    assert OptimizationResult.model_validate_json((out / "result.json").read_text()) == run.result
    rows = json.loads((out / "candidates.json").read_text())
    assert [CandidateResult.model_validate(row) for row in rows] == list(run.result.candidates)


def test_the_baseline_is_held_against_itself(run: Run) -> None:
    baseline = run.result.baseline
    assert baseline is not None
    assert baseline.comparison is not None
    assert baseline.comparison.equivalent
    assert baseline.status is CandidateStatus.MEASURED


def test_a_second_search_builds_nothing_that_is_cached(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **named: object) -> dict[str, object]:
        raise CandidateError("a child was started")

    monkeypatch.setattr("tasks.optimizer.build.run_child", never)
    again = search(replace(run.request, config=CONFIG.model_copy(update={"passes": ("quick", "slow", "stumbles")})))
    assert {name: again.of(name).cached for name in ("quick", "slow")} == {"quick": True, "slow": True}
    assert "a child was started" in again.of("stumbles").reason
    assert again.result.winner == run.result.winner
    assert again.of("quick").artifact == run.of("quick").artifact


def test_a_spent_budget_skips_what_is_left_and_keeps_the_baseline(run: Run, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"budget_minutes": 1e-6})
    short = search(replace(run.request, config=config, out=tmp_path / "out"))
    assert short.result.chosen == short.result.baseline
    others = [one for one in short.result.candidates if not one.baseline]
    assert {one.status for one in others} == {CandidateStatus.SKIPPED}
    assert {one.reason for one in others} == {"the budget of 1e-06 minutes was spent before its turn"}
    assert read_best(tmp_path / "out") is not None


def test_without_passes_there_is_the_source_alone(run: Run, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"passes": ()})
    alone = search(replace(run.request, config=config, out=tmp_path / "out"))
    knobs = [one.candidate.runtime.knobs for one in alone.result.candidates if not one.baseline]
    assert {"fixed_batches": True} in knobs
    assert {"memory_arena": True} in knobs
    assert len(knobs) == len(alone.result.candidates) - 1
    assert all(one.candidate.recipe == () for one in alone.result.candidates)
    assert alone.result.chosen is not None


def test_too_few_samples_is_said_and_the_baseline_stays(run: Run, tmp_path: Path) -> None:
    few = Dataset({"x": run.request.evaluation.inputs["x"][:20]})
    config = CONFIG.model_copy(update={"passes": ("mates",)})
    asked = replace(run.request, evaluation=few, evaluation_digest="f" * 64, config=config, out=tmp_path / "out")
    found = search(asked)
    assert found.result.chosen == found.result.baseline
    assert "too few samples to tell: at least 299 are needed" in found.of("mates").reason


def test_a_policy_without_its_limit_is_an_input_error_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"policy": Policy.MAX_THROUGHPUT_UNDER_LATENCY})
    with pytest.raises(InputError, match="latency_limit_ms"):
        search(replace(run.request, config=config, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_not_touched(run: Run, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        search(replace(run.request, out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_source_that_cannot_run_on_the_evaluation_set_is_an_input_error(run: Run, tmp_path: Path) -> None:
    wide = Dataset({"x": np.ones((400, 5), np.float32)})
    asked = replace(run.request, evaluation=wide, evaluation_digest="d" * 64, out=tmp_path / "out")
    with pytest.raises(InputError, match="the source model itself cannot be run on the evaluation set"):
        search(asked)


def test_best_is_told_from_its_changed_bytes(run: Run, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"passes": ()})
    search(replace(run.request, config=config, out=tmp_path / "out"))
    found = read_best(tmp_path / "out")
    assert found is not None
    found[1].file.write_bytes(b"changed")
    with pytest.raises(InputError, match="has changed"):
        read_best(tmp_path / "out")
    assert read_best(tmp_path) is None
