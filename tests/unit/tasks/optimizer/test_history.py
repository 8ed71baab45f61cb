"""What earlier searches say of a new one."""

from pathlib import Path

import pytest

from registry.records.model import ArtifactFormat, PluginConfig
from tasks.optimizer.catalogue import Features
from tasks.optimizer.history import Circumstances, Entry, History, similarity
from tasks.optimizer.space import Settings
from tests.unit.tasks.optimizer.chains import every_chain

CNN = {"conv2d": 8, "relu": 7, "linear": 1}
TRANSFORMER = {"linear": 36, "softmax": 6, "layer_norm": 13, "gelu": 6}


def about(operators: dict[str, int], size_bytes: int = 300_000, environment: str = "a") -> Circumstances:
    features = Features(
        format=ArtifactFormat.EXPORTED_PROGRAM, operators=operators, size_bytes=size_bytes, input_rank=4
    )
    return Circumstances(features=features, threads=1, batch_sizes=(1, 8), environment=environment * 64)


def entry(circumstances: Circumstances, ratio: float | None, *steps: str, runtime: str = "ort", **knobs: str) -> Entry:
    recipe = tuple(PluginConfig(name=step) for step in steps[:-1])
    recipe += tuple(PluginConfig(name=step, knobs=dict(knobs)) for step in steps[-1:])
    return Entry(
        about=circumstances,
        recipe=recipe,
        runtime=PluginConfig(name=runtime),
        ratio=ratio,
        passed=ratio is not None,
        seconds=5.0,
    )


def test_without_history_the_given_order_holds(tmp_path: Path) -> None:
    advice = History(tmp_path / "none" / "history.jsonl").advise(about(CNN), every_chain())
    assert advice.chains == every_chain()
    assert advice.first == ()


def test_a_second_similar_model_tries_the_earlier_winner_first(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add(entry(about(CNN), 0.5, "export_onnx"))
    history.add(entry(about(CNN), 0.1, "compile", runtime="aot"))
    history.add(entry(about(CNN), 0.2, "export_onnx", "quantize", method="entropy"))
    advice = History(tmp_path / "history.jsonl").advise(about(CNN | {"relu": 9}, 350_000), every_chain())
    assert [chain.name for chain in advice.chains[:3]] == [
        "compile @ aot",
        "export_onnx > quantize @ ort",
        "export_onnx @ ort",
    ]
    assert [trial.chain.name for trial in advice.first] == ["compile @ aot"]


def test_what_never_gained_comes_last_and_what_is_unknown_in_between(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add(entry(about(CNN), None, "export_onnx"))
    history.add(entry(about(CNN), 0.5, "export_onnx", "quantize"))
    order = [chain.name for chain in History(tmp_path / "history.jsonl").advise(about(CNN), every_chain()).chains]
    assert order[0] == "export_onnx > quantize @ ort"
    assert order[-1] == "export_onnx @ ort"


def test_another_kind_of_model_says_nothing(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add(entry(about(TRANSFORMER, 40_000_000), 0.1, "compile", runtime="aot"))
    advice = History(tmp_path / "history.jsonl").advise(about(CNN), every_chain())
    assert advice.chains == every_chain()
    assert advice.first == ()


def test_a_winner_brings_its_knobs_but_never_layers_of_another_model(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add(entry(about(CNN), 0.2, "export_onnx", "quantize", method="entropy"))
    history.add(entry(about(CNN), 0.1, "export_onnx", "quantize", gone="x"))
    first = History(tmp_path / "history.jsonl").advise(about(CNN), every_chain()).first
    expected: Settings = {"quantize.method": "entropy"}
    assert [trial.settings for trial in first] == [expected]


def test_corrupt_and_foreign_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    History(file).add(entry(about(CNN), 0.5, "export_onnx"))
    with file.open("ab") as stream:
        stream.write(b'{"other": 1}\n\xff\xfe\n{"about": {"fea')
    found = History(file)
    assert found.skipped == 3
    assert found.advise(about(CNN), every_chain()).chains[0].name == "export_onnx @ ort"
    found.add(entry(about(CNN), 0.4, "compile", runtime="aot"))
    assert "compile @ aot" in [chain.name for chain in History(file).advise(about(CNN), every_chain()).chains[:2]]


def test_similarity_is_1_for_the_same_and_falls_with_every_difference() -> None:
    assert similarity(about(CNN), about(CNN)) == pytest.approx(1.0)
    others = [about(TRANSFORMER), about(CNN, 3_000_000), about(CNN, environment="b")]
    assert all(similarity(about(CNN), other) < 0.7 for other in others)
