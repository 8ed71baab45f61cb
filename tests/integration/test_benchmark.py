"""Real ONNX Runtime sessions measured in a real child process."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.records.model import ArtifactFormat, Datatype, PluginConfig, Signature, TensorSpec
from serving.runtime import Arrays, build_runtime
from tasks.bench.compare import Speed
from tasks.bench.measure import Plan
from tasks.bench.process import BenchItem, BenchmarkRun, benchmark
from tasks.gates.invariance import check_batch_invariance

WIDTH = 64
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, WIDTH)),),
    outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None, WIDTH)),),
)
X: Arrays = {"x": np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32)}


def write_net(folder: Path, layers: int, hidden: int) -> Path:
    """An ONNX net of layers [WIDTH, hidden] and [hidden, WIDTH]."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for layer in range(layers):
        shapes = ((WIDTH, hidden), (hidden, WIDTH))
        for place, shape in enumerate(shapes):
            name = f"w{layer}_{place}"
            values = (generator.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
            weights.append(numpy_helper.from_array(values, name))
            out = "y" if (layer, place) == (layers - 1, 1) else f"h{layer}_{place}"
            nodes.append(helper.make_node("MatMul", [last, name], [out]))
            last = out
    edge = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", edge[:1], edge[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder


def item(name: str, folder: Path, runtime: str = "onnxruntime") -> BenchItem:
    return BenchItem(
        id=name,
        folder=folder,
        artifact=ArtifactFormat.ONNX,
        runtime=PluginConfig(name=runtime, knobs={"threads": 1}),
        signature=SIGNATURE,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkRun:
    root = tmp_path_factory.mktemp("benchmark")
    small, large = write_net(root / "small", 1, 64), write_net(root / "large", 4, 4096)
    broken = root / "broken"
    broken.mkdir()
    (broken / "model.onnx").write_bytes((small / "model.onnx").read_bytes()[:1000])
    items = (item("small", small), item("large", large), item("broken", broken), item("unknown", small, "no_such"))
    plan = Plan(batch_sizes=(1, 4), seconds_cap=2.0, half_width=0.5)
    return benchmark(items, X, plan, root / "workspace")


def test_what_runs_is_measured_and_what_does_not_says_why(run: BenchmarkRun) -> None:
    assert set(run.figures) == {"small", "large"}
    assert set(run.failures) == {"broken", "unknown"}
    assert "cannot load" in run.failures["broken"]
    assert "there is no runtime 'no_such'" in run.failures["unknown"]


def test_every_batch_size_has_its_figures(run: BenchmarkRun) -> None:
    for figures in run.figures.values():
        assert [one.batch_size for one in figures.latency] == [1, 4]
        assert all(one.calls >= 10 for one in figures.latency)
        assert all(one.latency_p50_ms.low <= one.latency_p99_ms.high for one in figures.latency)


def test_more_work_takes_longer_and_more_memory(run: BenchmarkRun) -> None:
    small, large = run.figures["small"], run.figures["large"]
    assert small.at_batch(1).latency_p50_ms.high < large.at_batch(1).latency_p50_ms.low
    assert small.at_batch(4).throughput_per_s.low > large.at_batch(4).throughput_per_s.high
    assert large.size_bytes > 8 * 2**20 > small.size_bytes
    assert small.peak_memory_mib < 8 <= large.peak_memory_mib
    assert [one.speed for one in run.differences["large"]] == [Speed.SLOWER, Speed.SLOWER]


def test_a_float_session_is_batch_invariant(tmp_path: Path) -> None:
    folder = write_net(tmp_path / "net", 2, 64)
    session = build_runtime(PluginConfig(name="onnxruntime")).load(folder, ArtifactFormat.ONNX, SIGNATURE)
    try:
        assert check_batch_invariance(session, X).verdict == "pass"
    finally:
        session.close()


@pytest.mark.slow
def test_an_a_a_run_tells_no_difference(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net", 2, 128)
    plan = Plan(batch_sizes=(1,), seconds_cap=3.0)
    called = 0
    for number in range(20):
        found = benchmark((item("a", net), item("b", net)), X, plan, tmp_path / str(number))
        called += found.differences["b"][0].speed is not Speed.CANNOT_TELL
    assert called <= 3  # 1 expected at alpha .05
