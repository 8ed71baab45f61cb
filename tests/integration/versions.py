"""A registered version of a tiny ONNX model, for tests that serve one."""

from datetime import UTC, datetime
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from registry.digest import tree_digest
from registry.records.benchmark import Environment
from registry.records.gate import GateDecision, RuleOutcome, Verdict
from registry.records.model import (
    ArtifactFormat,
    ArtifactRef,
    Datatype,
    ModelVersion,
    PluginConfig,
    Signature,
    TensorSpec,
    VersionDraft,
)

SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="image", datatype=Datatype.FP32, shape=(None, 2, 3)),
        TensorSpec(name="in.put/1", datatype=Datatype.INT8, shape=(None,)),
    ),
    outputs=(
        TensorSpec(name="doubled", datatype=Datatype.FP32, shape=(None, 2, 3)),
        TensorSpec(name="copy", datatype=Datatype.INT8, shape=(None,)),
    ),
)


def write_model(folder: Path) -> None:
    """Write model.onnx: one output is twice the image, the other the second input as it came."""
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["image", "image"], ["doubled"]),
            helper.make_node("Identity", ["in.put/1"], ["copy"]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2, 3]),
            helper.make_tensor_value_info("in.put/1", TensorProto.INT8, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 2, 3]),
            helper.make_tensor_value_info("copy", TensorProto.INT8, ["batch"]),
        ],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "model.onnx")


def registered(model: str, version: int, artifact: Path, signature: Signature = SIGNATURE) -> ModelVersion:
    """A version of a model whose artifact, run by ONNX Runtime, stands in a folder."""
    size = sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file())
    reference = ArtifactRef(sha256=tree_digest(artifact), format=ArtifactFormat.ONNX, size_bytes=size)
    passed = RuleOutcome(rule="fidelity", verdict=Verdict.PASS, reason="equal")
    draft = VersionDraft(
        model=model,
        optimization_id="0" * 32,
        source=reference,
        artifact=reference,
        runtime=PluginConfig(name="onnxruntime"),
        signature=signature,
        recipe=(),
        batch_invariant=True,
        tool_versions={},
        environment=Environment(
            cpu_model="any", cpu_count=1, cpu_flags=(), memory_mib=1, system="any", python="3.11", libraries={}
        ),
        metrics=(),
        gate=GateDecision(outcomes=(passed,)),
        evaluation_set="e" * 64,
        report="f" * 64,
    )
    return ModelVersion(version=version, created_at=datetime(2026, 1, 1, tzinfo=UTC), draft=draft)
