"""What goes in comes out to the last bit, for every datatype that a runtime takes; the others are refused by name."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from registry.errors import CandidateError, InputError
from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from serving.runtime import Array, Session
from serving.runtimes.aot_inductor import AotInductor
from serving.runtimes.onnxruntime import OnnxRuntime
from serving.runtimes.openvino import OpenVino
from serving.runtimes.torch_export import TorchExport

ONNX_TYPES = {
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.BYTES: TensorProto.STRING,
}


def signature(datatype: Datatype) -> Signature:
    sides = [TensorSpec(name=name, datatype=datatype, shape=(None, 2)) for name in ("x", "y")]
    return Signature(inputs=(sides[0],), outputs=(sides[1],))


def identity(folder: Path, datatype: Datatype) -> Path:
    kind = ONNX_TYPES.get(datatype) or TensorProto.DataType.Value(datatype.value)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", kind, ["n", 2])],
        [helper.make_tensor_value_info("y", kind, ["n", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / ArtifactFormat.ONNX.main_file)
    return folder


def sample(datatype: Datatype) -> Array:
    if datatype is Datatype.BYTES:
        return np.array([[b"", "é\0b".encode()], [b"c" * 1000, b"d"]], object)
    return np.array([[0, 1], [1, 0]], datatype.numpy_name)


def check_identity(session: Session, datatype: Datatype) -> None:
    session.warm_up()
    given = sample(datatype)
    found = session.run({"x": given})["y"]
    assert (found.dtype, found.tolist()) == (given.dtype, given.tolist())
    session.close()


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("fixed_batches", [False, True])
def test_onnx_runtime_takes_every_datatype(tmp_path: Path, datatype: Datatype, fixed_batches: bool) -> None:
    runtime = OnnxRuntime(fixed_batches=fixed_batches)
    check_identity(runtime.load(identity(tmp_path, datatype), ArtifactFormat.ONNX, signature(datatype)), datatype)


def test_bytes_that_are_not_text_are_the_clients_fault(tmp_path: Path) -> None:
    session = OnnxRuntime().load(identity(tmp_path, Datatype.BYTES), ArtifactFormat.ONNX, signature(Datatype.BYTES))
    with pytest.raises(InputError, match="input 'x' holds bytes that are not text"):
        session.run({"x": np.array([[b"\xff", b""]], object)})


def test_torch_takes_bf16_by_its_bits(tmp_path: Path) -> None:
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x

    batch = torch.export.Dim("n", min=1, max=8)
    program = torch.export.export(Double(), (torch.zeros(2, 2, dtype=torch.bfloat16),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / ArtifactFormat.EXPORTED_PROGRAM.main_file)
    session = TorchExport().load(tmp_path, ArtifactFormat.EXPORTED_PROGRAM, signature(Datatype.BF16))
    session.warm_up()
    found = session.run({"x": sample(Datatype.BF16)})["y"]
    assert (found.dtype.name, found.astype(int).tolist()) == ("bfloat16", [[0, 2], [2, 0]])


@pytest.mark.parametrize(
    ("runtime", "datatype"),
    [
        (OpenVino(), Datatype.BF16),
        (OpenVino(), Datatype.BYTES),
        (TorchExport(), Datatype.BYTES),
        (AotInductor(), Datatype.BF16),
    ],
)
def test_a_datatype_that_a_runtime_lacks_loses_the_candidate(
    tmp_path: Path, runtime: OpenVino | TorchExport | AotInductor, datatype: Datatype
) -> None:
    (artifact_format,) = sorted(runtime.consumes)[:1]
    with pytest.raises(CandidateError, match=f"has no {datatype} tensors, and 'x' is one"):
        runtime.load(tmp_path, artifact_format, signature(datatype))
