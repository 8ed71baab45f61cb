"""Metrics by name: what is known, what an entry point's function may give, and how it reaches a verdict."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from registry.errors import InputError
from registry.records.optimization import OptimizationConfig
from serving.runtime import Array, Arrays
from tasks.gates import metrics
from tasks.gates.metrics import check_metric, describe_metric, score_with
from tasks.gates.rules import not_worse_than_champion
from tasks.gates.score import judge, resolve_metric
from tasks.optimizer.dataset import Dataset

PAGE = Path(__file__).parents[4] / "docs/write-a-metric.md"
OUTPUTS: Arrays = {"y": np.array([[0.2], [0.5], [0.9]]), "z": np.zeros((3, 2))}


def first(outputs: Arrays) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return outputs["y"][:, 0].astype(np.float64)


def closeness(outputs: Arrays, labels: Array | None, reference: Arrays) -> Array:
    """How close y is to the label.

    More of the text.
    """
    target = reference["y"] if labels is None else labels
    return np.clip(1 - np.abs(first(outputs) - target.reshape(-1).astype(np.float64)), 0, 1)


def right(outputs: Arrays, labels: Array | None, reference: Arrays) -> Array:
    return first(outputs) > 0.3


def of_a_wrong_shape(outputs: Arrays, labels: Array | None, reference: Arrays) -> Array:
    return outputs["y"]


def above_one(outputs: Arrays, labels: Array | None, reference: Arrays) -> Array:
    return first(outputs) + 0.5


def failing(outputs: Arrays, labels: Array | None, reference: Arrays) -> Array:
    return outputs["no such output"]


@pytest.fixture(autouse=True)
def entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("closeness", "right", "of_a_wrong_shape", "above_one", "failing", "OUTPUTS", "gone")
    points = tuple(EntryPoint(name, f"{__name__}:{name}", metrics.GROUP) for name in names)
    elsewhere = EntryPoint("elsewhere", "no_such_package.metrics:score", metrics.GROUP)
    shadow = EntryPoint("top1", f"{__name__}:failing", metrics.GROUP)
    found = {metrics.GROUP: (*points, elsewhere, shadow)}
    monkeypatch.setattr(metrics, "entry_points", lambda group: found[group])


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    known = "auto, top1, cosine, error, ranking, OUTPUTS, above_one, closeness, "
    with pytest.raises(InputError, match=f"there is no metric 'f1'; known: {known}"):
        check_metric("f1")


@pytest.mark.parametrize("name", ["auto", "top1", "cosine", "error", "ranking", "closeness"])
def test_known_metrics_are_taken(name: str) -> None:
    check_metric(name)
    assert describe_metric(name).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "words"),
    [("elsewhere", "cannot be imported: No module"), ("gone", "cannot be imported"), ("OUTPUTS", "is no function")],
)
def test_a_function_that_is_not_there_is_refused(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_metric(name)


def test_a_metric_is_told_by_the_first_line_of_its_docstring() -> None:
    assert describe_metric("closeness") == "closeness: How close y is to the label."
    assert describe_metric("of_another_machine") == "of_another_machine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("of_a_wrong_shape", r"returned the shape \[3, 1\] of float64, expected \[3\]"),
        ("above_one", "returned 1.4 for sample 2; scores go from 0 to 1"),
        ("failing", "failed with KeyError: 'no such output'"),
    ],
)
def test_what_is_no_score_is_refused(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        score_with(name, OUTPUTS, None, OUTPUTS)


def test_both_models_are_scored_beside_the_reference() -> None:
    other = {**OUTPUTS, "y": first(OUTPUTS)[:, None] + 0.25}
    found = judge("closeness", OUTPUTS, other, None)
    assert found.reference.tolist() == [1, 1, 1] and found.candidate == pytest.approx([0.75] * 3)
    labelled = judge("closeness", OUTPUTS, other, np.array([0.2, 0.5, 0.9]))
    assert labelled.candidate == pytest.approx([0.75] * 3)
    assert judge("right", OUTPUTS, other, None).candidate.dtype == np.bool_


def test_a_metric_of_another_package_takes_any_output_and_labels() -> None:
    assert resolve_metric("closeness", OUTPUTS, np.array([1, 2, 3])) == "closeness"


def test_it_decides_over_a_champion_under_the_new_models_names() -> None:
    config = OptimizationConfig(metric="closeness")
    values = np.random.default_rng(0).uniform(size=(600, 1))
    dataset = Dataset({"x": values}, values[:, 0])
    champion: Arrays = {"a": values + 0.05, "b": np.zeros((600, 2))}
    for error, verdict in ((0.05, "pass"), (0.0, "pass"), (0.2, "fail")):
        contender: Arrays = {"y": values + error, "z": np.zeros((600, 2))}
        (outcome,) = not_worse_than_champion("the set", dataset, champion, contender, config)
        assert outcome.verdict == verdict, outcome.reason


def test_the_example_in_the_docs_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    source = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    point = re.search(rf'entry-points\."{metrics.GROUP}"\]\n(\w+) = "(\w+)\.(\w+):(\w+)"', text)
    assert source and point
    name, package, module, function = point.groups()
    (tmp_path / package).mkdir()
    (tmp_path / package / f"{module}.py").write_text(source[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint(name, f"{package}.{module}:{function}", metrics.GROUP)]
    monkeypatch.setattr(metrics, "entry_points", lambda group: points)
    assert describe_metric(name) == f"{name}: Samples whose price is within 10 % of the true one."
    prices: Arrays = {"price": np.array([[90.5], [111.0], [100.0]])}
    assert score_with(name, prices, np.array([100.0, 100, 100]), prices).tolist() == [True, False, True]
    assert score_with(name, prices, None, prices).all()
