"""``burnish optimize`` on models that no other test knows, its exit codes, and what a kill leaves behind."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from burnish.cli.main import run
from registry.records.model import PluginConfig
from registry.records.optimization import CandidateStatus, OptimizationResult
from serving.runtime import Arrays
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.isolation import predict
from tasks.optimizer.output import read_best
from tests.integration.unseen_models import write_unseen

QUICK = "passes: [export_onnx, quantize_static_int8, quantize_dynamic_int8]\nruntimes: [onnxruntime, openvino]\n"
SMALL = "passes: [quantize_static_int8, quantize_dynamic_int8]\nruntimes: [onnxruntime]\nbatch_sizes: [1]\n"
BURNISH = Path(sys.executable).parent / "burnish"


def two_layers(path: Path, *, mates: bool = False) -> Path:
    """An ONNX model of 8 inputs and 3 classes; with ``mates`` an answer depends on the other samples of its batch."""
    generator = np.random.default_rng(0)
    weights = {"first": (8, 64), "second": (64, 3)}
    initializers = [
        numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["c" if mates else "y"]),
    ]
    if mates:
        initializers.append(numpy_helper.from_array(np.zeros(1, np.int64), "axis"))
        nodes += [helper.make_node("ReduceMean", ["c", "axis"], ["d"]), helper.make_node("Sub", ["c", "d"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "g", [x], [y], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


def samples(path: Path, seed: int, count: int = 400) -> Path:
    inputs = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    save_dataset(Dataset({"x": inputs}), path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The arguments of a good small run but for --out."""
    model, evaluation = two_layers(tmp_path / "model.onnx"), samples(tmp_path / "evaluation.npz", 1)
    calibration, config = samples(tmp_path / "calibration.npz", 2, 200), tmp_path / "config.yaml"
    config.write_text(SMALL)
    return [str(model), "--eval", str(evaluation), "--calibration", str(calibration), "--config", str(config)]


def answers(folder: Path, inputs: Arrays, workspace: Path) -> tuple[PluginConfig, Arrays]:
    found = read_best(folder)
    assert found is not None
    best, artifact = found
    return best.runtime, predict(artifact, best.runtime, inputs, workspace, timeout_s=60)


def check_unseen(name: str, tmp_path: Path, config: str) -> OptimizationResult:
    """Optimize an unseen model; the winner must hold against the labels and stand in ``best/``."""
    unseen = write_unseen(name, tmp_path)
    (tmp_path / "config.yaml").write_text(config)
    out = tmp_path / "out"
    done = subprocess.run(
        [
            *(BURNISH, "optimize", unseen.model, "--eval", unseen.evaluation, "--calibration", unseen.calibration),
            *("--config", tmp_path / "config.yaml", "--out", out, "--json"),
        ],
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    result = OptimizationResult.model_validate_json(done.stdout)
    assert OptimizationResult.model_validate_json((out / "result.json").read_text()) == result
    assert "<html" in (out / "report.html").read_text()
    winner, baseline = result.chosen, result.baseline
    assert winner is not None
    assert baseline is not None
    assert baseline.status is CandidateStatus.MEASURED
    arrays = load_arrays(unseen.evaluation)
    labels = arrays.pop("label")
    _, outputs = answers(out, arrays, tmp_path / "again")
    assert winner.score is not None
    assert float(np.mean(outputs["output_0"].argmax(1) == labels)) == pytest.approx(winner.score.estimate, abs=0.0051)
    return result


@pytest.mark.parametrize("name", ["tabular", "recurrent"])
def test_an_unseen_model_gets_a_valid_winner(name: str, tmp_path: Path) -> None:
    result = check_unseen(name, tmp_path, QUICK + "budget_minutes: 0.4\n")
    unfinished = [one for one in result.candidates if one.status in (CandidateStatus.PENDING, CandidateStatus.BUILT)]
    assert unfinished == []
    assert all(one.reason for one in result.candidates if one.candidate.id != result.winner)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tabular", "waves", "encoder", "recurrent"])
def test_an_unseen_model_with_everything_on(name: str, tmp_path: Path) -> None:
    result = check_unseen(name, tmp_path, "budget_minutes: 8\n")
    for one in result.candidates:  # a pass may say that there is nothing to do; it may not stumble
        assert not re.match(r"the child process|\w*(Error|Exception|Interrupt)\b", one.reason), one.candidate.label


def test_a_run_goes_on_from_its_own_folder(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["optimize", *files, "--out", str(out)]) == 0
    lines = capsys.readouterr().out
    assert "winner: " in lines
    assert "source @ onnxruntime (baseline): measured" in lines
    assert run(["optimize", *files, "--out", str(out), "--json"]) == 0
    again = OptimizationResult.model_validate_json(capsys.readouterr().out)
    built = [one for one in again.candidates if one.artifact]
    assert len(built) > 2
    assert all(one.cached for one in built)


def test_when_nothing_passes_the_gate_the_exit_code_is_1_and_says_why(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_layers(tmp_path / "model.onnx", mates=True)
    (tmp_path / "config.yaml").write_text("passes: []\nruntimes: [onnxruntime]\n")
    assert run(["optimize", *files, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "nothing passed the gate" in said
    assert "source @ onnxruntime: refused: batch_invariant" in said
    assert read_best(tmp_path / "out") is None


def mistakes(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    """What is changed in the arguments of a good run, and what the message must say."""
    two_layers(tmp_path / "cut.onnx")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "cut.onnx").read_bytes()[:-20])
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", z=np.ones((400, 8), np.float32))
    np.savez(tmp_path / "wide.npz", x=np.ones((400, 9), np.float32))
    (tmp_path / "field.yaml").write_text("budgets: 3\n")
    (tmp_path / "value.toml").write_text("alpha = 2.0\n")
    (tmp_path / "pass.yaml").write_text("passes: [quantise]\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    return {
        "missing model": (["MODEL", "none.pt2"], "none.pt2 does not exist"),
        "cut model": (["MODEL", "cut.onnx"], "not a complete ONNX model"),
        "objects": (["--eval", "objects.npz"], "objects"),
        "wrong name": (["--eval", "other.npz"], "lacks the input 'x'"),
        "wrong shape": (["--calibration", "wide.npz"], "has the shape"),
        "wrong field": (["--config", "field.yaml"], "budgets: Extra inputs are not permitted"),
        "wrong value": (["--config", "value.toml"], "alpha: Input should be less than 1"),
        "wrong policy": (["--policy", "fastest"], "policy: Input should be 'min_latency'"),
        "wrong budget": (["--budget", "0"], "budget_minutes: Input should be greater than 0"),
        "wrong pass": (["--config", "pass.yaml"], "there is no pass 'quantise'"),
        "no limit": (["--policy", "max_throughput_under_latency"], "latency_limit_ms"),
        "foreign folder": (["--out", "full"], "holds something else"),
    }


def test_a_users_mistake_is_one_line_exit_code_2_and_nothing_written(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, ((option, value), said) in mistakes(tmp_path).items():
        value = value if option in ("--policy", "--budget") else str(tmp_path / value)
        arguments = [value, *files[1:]] if option == "MODEL" else [*files, option, value]
        out = [] if option == "--out" else ["--out", str(tmp_path / "out")]
        assert run(["optimize", *arguments, *out]) == 2, name
        error = capsys.readouterr().err
        assert said in error, name
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists(), name
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def kill_and_go_on(files: list[str], out: Path, moment_s: float, *, wait_for_best: bool) -> dict[str, Any]:
    """Start a search, kill it with SIGKILL, check what stands, run it to its end."""
    command = [str(BURNISH), "optimize", *files, "--out", str(out), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while wait_for_best and not (out / "best" / "best.json").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(moment_s)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    found = read_best(out)
    assert found is not None or not wait_for_best
    evaluated = len(list(out.glob("cache/*/content/predictions.npz")))
    done = subprocess.run(command, capture_output=True, timeout=300, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    known = [one for one in result["candidates"] if one["artifact"] and (one["cached"] or one["taken_over"])]
    assert len(known) == evaluated
    assert result["winner"] is not None
    assert read_best(out) is not None
    return result


def test_a_killed_search_leaves_a_valid_best_and_goes_on(files: list[str], tmp_path: Path) -> None:
    kill_and_go_on(files, tmp_path / "out", 2.0, wait_for_best=True)


@pytest.mark.slow
def test_a_search_killed_at_ten_moments_always_goes_on(files: list[str], tmp_path: Path) -> None:
    generator = random.Random(7)
    for number in range(10):
        kill_and_go_on(files, tmp_path / f"out-{number}", generator.uniform(0.5, 30), wait_for_best=False)
