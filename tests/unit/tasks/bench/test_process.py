"""The benchmark's parent: who is to blame when the child dies, and that the others are measured again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.errors import InputError
from registry.records.model import ArtifactFormat, PluginConfig
from serving.runtime import Arrays
from tasks.bench import process
from tasks.bench.child import _turn_file
from tasks.bench.measure import Plan
from tasks.bench.process import INPUTS_FILE, TURN_FILE, BenchItem, benchmark
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.isolation import Answer, Limits
from tests.unit.tasks.gates.sessions import dense_signature
from tests.unit.tasks.optimizer.results import benchmark as figures

X: Arrays = {"x": np.ones((400, 8), np.float32)}


def item(name: str) -> BenchItem:
    return BenchItem(
        id=name,
        folder=Path("/artifacts") / name,
        artifact=ArtifactFormat.ONNX,
        runtime=PluginConfig(name="onnxruntime"),
        signature=dense_signature(),
    )


class Children:
    """Stands in for the child process: dies at the turn of some items, answers otherwise."""

    def __init__(self, *deadly: str, before_any_turn: bool = False) -> None:
        self.deadly = deadly
        self.before_any_turn = before_any_turn
        self.asked: list[list[str]] = []

    def __call__(self, module: str, job: Mapping[str, Any], *, workspace: Path, limits: Limits) -> Answer:
        assert module == "tasks.bench.child" and limits.timeout_s > job["plan"]["seconds_cap"]
        workspace.mkdir(parents=True, exist_ok=True)
        names = [one["id"] for one in job["items"]]
        self.asked.append(names)
        if self.before_any_turn:
            return Answer(failure="the child process was ended by SIGKILL")
        note = _turn_file(workspace / TURN_FILE, names)
        for name in names:
            note(name)
            if name in self.deadly:
                return Answer(failure="the child process was ended by SIGSEGV")
        return Answer(value={"figures": {name: figures(1).model_dump(mode="json") for name in names}})


def run(children: Children, folder: Path, monkeypatch: pytest.MonkeyPatch) -> process.BenchmarkRun:
    monkeypatch.setattr(process, "ask_child", children)
    return benchmark(tuple(map(item, "abcd")), X, Plan(), folder)


def test_all_are_measured_in_one_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children()
    found = run(children, tmp_path, monkeypatch)
    assert list(found.figures) == list("abcd") and not found.failures
    assert children.asked == [list("abcd")]
    assert load_arrays(tmp_path / INPUTS_FILE)["x"].shape == (256, 8)


def test_those_who_kill_the_child_are_named_and_the_others_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = Children("b", "d")
    found = run(children, tmp_path, monkeypatch)
    assert list(found.figures) == ["a", "c"]
    assert set(found.failures) == {"b", "d"} and "SIGSEGV" in found.failures["b"]
    assert children.asked == [list("abcd"), list("acd"), list("ac")]


def test_a_child_that_dies_before_any_turn_fails_all_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(before_any_turn=True)
    found = run(children, tmp_path, monkeypatch)
    assert set(found.failures) == set("abcd") and not found.figures
    assert len(children.asked) == 1


def test_the_turns_of_an_earlier_run_blame_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / TURN_FILE).write_bytes((2).to_bytes(8, "little"))
    assert set(run(Children(before_any_turn=True), tmp_path, monkeypatch).failures) == set("abcd")


def test_no_items_are_no_work(tmp_path: Path) -> None:
    assert benchmark((), X, Plan(), tmp_path) == process.BenchmarkRun()


def test_two_items_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same id"):
        benchmark((item("a"), item("a")), X, Plan(), tmp_path)
