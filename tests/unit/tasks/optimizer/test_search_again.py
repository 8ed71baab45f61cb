"""A search that was interrupted and goes on, and one that learns from an earlier search of a similar model."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from registry.records.optimization import CandidateResult, CandidateStatus, OptimizationConfig
from tasks.optimizer.isolation import Limits
from tasks.optimizer.request import SearchRequest
from tasks.optimizer.search import optimize
from tests.unit.tasks.optimizer.odd_passes import odd_passes
from tests.unit.tasks.optimizer.odd_search import made_up_benchmark, request, run_here, search

CONFIG = OptimizationConfig(passes=("slow", "stumbles", "wrong", "quick"), runtimes=("onnxruntime",))


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path) -> Iterator[None]:
    with odd_passes(tmp_path / "plugins"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.optimizer.measurement.benchmark", made_up_benchmark)
        patch.setattr("tasks.optimizer.build.run_child", run_here)
        patch.setattr("tasks.optimizer.catalogue.run_child", run_here)
        patch.setattr("tasks.optimizer.search.explained", lambda judged, *_: judged)
        yield


class Killed(BaseException):
    pass


def interrupt(asked: SearchRequest, name: str) -> None:
    """Run a search until a pass is proposed."""

    def stop(result: CandidateResult) -> None:
        if name in {step.name for step in result.candidate.recipe}:
            raise Killed

    with pytest.raises(Killed):
        optimize(asked, stop)


def test_an_interrupted_search_goes_on_without_doing_anything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(tmp_path, CONFIG)
    interrupt(asked, "quick")
    started: list[str] = []

    def noted(module: str, job: Mapping[str, Any], *, workspace: Path, limits: Limits) -> dict[str, Any]:
        started.extend(step["name"] for step in job["steps"])
        return run_here(module, job, workspace=workspace, limits=limits)

    monkeypatch.setattr("tasks.optimizer.build.run_child", noted)
    again = search(asked)
    taken = {one.candidate.label for one in again.result.candidates if one.taken_over}
    assert {"source @ onnxruntime", "slow @ onnxruntime", "stumbles @ onnxruntime", "wrong @ onnxruntime"} == taken
    assert again.of("stumbles").status is CandidateStatus.FAILED
    assert again.of("wrong").status is CandidateStatus.REFUSED
    assert again.of("slow").status is CandidateStatus.MEASURED
    assert again.result.chosen == again.of("quick")
    assert started == ["quick"]
    # A look at the quick one and three at its runtime's knobs, each beside the leader; then the final measurement.
    assert sum(len(items) for items in again.benchmarked) == 2 + 3 * 2 + 6


def test_bytes_that_changed_since_are_built_again(tmp_path: Path) -> None:
    asked = request(tmp_path, CONFIG)
    interrupt(asked, "quick")
    for folder in (asked.out / "candidates").glob("*/artifact"):
        if (folder / "slow").exists():
            (folder / "slow").write_text("changed")
    again = search(asked)
    assert not again.of("slow").taken_over
    assert again.of("slow").status is CandidateStatus.MEASURED
    assert again.of("wrong").taken_over


def test_another_request_in_the_same_folder_and_a_finished_search_begin_anew(tmp_path: Path) -> None:
    asked = request(tmp_path, CONFIG)
    interrupt(asked, "quick")
    other = search(replace(asked, config=CONFIG.model_copy(update={"margin": 0.02})))
    assert not any(one.taken_over for one in other.result.candidates)
    again = search(replace(asked, config=CONFIG.model_copy(update={"margin": 0.02})))
    assert not any(one.taken_over for one in again.result.candidates)
    assert again.of("slow").cached


def test_the_time_that_was_used_before_counts(tmp_path: Path) -> None:
    asked = request(tmp_path, CONFIG)
    interrupt(asked, "quick")
    journal = asked.out / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"seconds": 599.0}\n')
    again = search(asked)
    assert again.result.seconds > 599
    assert again.of("quick").status is CandidateStatus.SKIPPED
    assert again.result.chosen is not None


def test_a_second_similar_model_tries_the_earlier_winner_first(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    first = search(replace(request(tmp_path / "first", CONFIG), history=history))
    assert _tried(first.events)[:2] == ["source", "slow"]
    second = request(tmp_path / "second", CONFIG)
    model = onnx.load(str(second.source.file))
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.asarray(2 * weight), "w"))
    onnx.save(model, str(second.source.file))
    found = search(replace(second, history=history))
    assert _tried(found.events)[:2] == ["source", "quick"]


def test_a_price_tells_what_a_million_requests_cost(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"passes": ("quick",), "price_per_core_hour": 0.036})
    found = search(request(tmp_path, config))
    assert found.of("quick").cost_per_million == pytest.approx(0.005)
    assert found.result.baseline is not None
    assert found.result.baseline.cost_per_million == pytest.approx(0.01)


def _tried(events: list[CandidateResult]) -> list[str]:
    return [
        next((step.name for step in event.candidate.recipe), "source")
        for event in events
        if event.status is CandidateStatus.PENDING
    ]
