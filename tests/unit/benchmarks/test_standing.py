"""What follows from figures that were measured: who is the rival, which goal is met."""

from typing import Any

import numpy as np
import pytest

from benchmarks.figures import ContestRun, NetFigures, SearchTimes, Standing
from benchmarks.standing import goals, net_goals, standing
from tasks.bench.compare import Speed
from tasks.bench.environment import environment

ROUNDS = 60
SAMPLES = 600


def run(seed: int = 0, wrong: tuple[str, int] = ("", 0), labels: bool = True, **p50_ms: float) -> ContestRun:
    """A contest in which every contestant's rounds lie a few percent around its p50."""
    random = np.random.default_rng(seed)
    names = {name.replace("_", " "): value for name, value in p50_ms.items()}
    medians = {name: tuple(value * random.normal(1, 0.02, ROUNDS)) for name, value in names.items()}
    lost = dict([wrong])
    right = {name: tuple(number >= lost.get(name, 0) for number in range(SAMPLES)) for name in names}
    return ContestRun(
        lines=tuple(name for name in names if name != "winner"), medians_ms={1: medians}, right=right if labels else {}
    )


def stand(*runs: ContestRun) -> Standing:
    return standing(runs, 1, "winner", "some > passes @ runtime")


def figures(name: str, *standings: Standing, **times: float) -> NetFigures:
    told: dict[str, Any] = {"first_best_s": 5.0, "whole_s": 500.0, "budget_minutes": 10.0, **times}
    return NetFigures(
        net=name,
        small=True,
        measured_at="2026-01-01T00:00:00+00:00",
        environment=environment(),
        times=SearchTimes(**told),
        candidates={"measured": 1},
        standings=standings,
        line_accuracy={},
        failed_lines={},
    )


def test_the_fastest_line_is_the_rival_but_the_eager_module_never_is() -> None:
    found = stand(run(winner=1.0, torch_eager=0.5, torch_bf16=3.0, onnxruntime_fp32=2.0))
    assert found.best_line == "onnxruntime fp32"
    assert found.difference.ratio.estimate == pytest.approx(0.5, rel=0.03)
    assert found.difference.speed is Speed.FASTER


def test_a_line_that_loses_more_than_a_point_of_accuracy_is_no_rival() -> None:
    for lost, best in ((6, "onnxruntime u8s8"), (7, "onnxruntime fp32")):
        wrong = ("onnxruntime u8s8", lost)
        found = stand(run(wrong=wrong, winner=1.0, torch_eager=9.0, onnxruntime_fp32=2.0, onnxruntime_u8s8=0.5))
        assert found.best_line == best


def test_without_labels_every_line_is_a_rival_and_nothing_is_said_of_accuracy() -> None:
    found = stand(run(winner=1.0, torch_eager=9.0, onnxruntime_u8s8=0.5, labels=False))
    assert (found.best_line, found.accuracy, found.fidelity) == ("onnxruntime u8s8", None, None)


def test_no_rival_is_an_error() -> None:
    with pytest.raises(ValueError, match="no hand-made line"):
        stand(run(winner=1.0, torch_eager=9.0))


def test_the_rounds_of_all_processes_count() -> None:
    """A line that lies badly in one process of three is still the best one."""
    first = run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=2.0, openvino_f32=1.5)
    second = run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=1.0, openvino_f32=1.5, seed=1)
    third = run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=1.0, openvino_f32=1.5, seed=2)
    found = stand(first, second, third)
    assert found.best_line == "onnxruntime fp32"
    assert found.difference.speed is Speed.CANNOT_TELL


def test_goals_that_are_met() -> None:
    fast = stand(run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=2.0))
    found = goals([figures("a", fast), figures("b", fast)], ["a", "b"])
    assert [goal.name for goal in found if not goal.met] == []
    assert len(found) == 2 * 4 + 2


@pytest.mark.parametrize(
    ("standing", "times", "said"),
    [
        (stand(run(winner=1.2, torch_eager=9.0, onnxruntime_fp32=1.0)), {}, "winner's p50"),
        (stand(run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=2.0, wrong=("winner", 9))), {}, "less accurate"),
        (stand(run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=2.0)), {"first_best_s": 16.0}, "best-so-far"),
        (stand(run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=2.0)), {"whole_s": 601.0}, "budget"),
    ],
)
def test_a_goal_that_is_missed_is_the_one_that_is_named(standing: Standing, times: dict[str, float], said: str) -> None:
    missed = [goal.name for goal in net_goals(figures("a", standing, **times)) if not goal.met]
    assert len(missed) == 1
    assert said in missed[0]


def test_faster_by_hand_alone_at_one_batch_size_does_not_count() -> None:
    fast = stand(run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=2.0))
    equal = stand(run(winner=1.0, torch_eager=9.0, onnxruntime_fp32=1.0))
    found = {goal.name: goal for goal in goals([figures("a", fast, equal), figures("b", fast)], ["a", "b", "c"])}
    faster = next(goal for name, goal in found.items() if "strictly faster" in name)
    assert (faster.measured, faster.detail, faster.met) == (1, "b", False)
    assert (found["nets measured"].met, found["nets measured"].detail) == (False, "missing: c")
