"""Files that try to run code or to break the intake: each one an InputError, and nothing of it ran."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from registry.errors import InputError
from registry.records.model import ArtifactFormat, Signature
from tasks.optimizer import isolation
from tasks.optimizer.dataset import load_dataset
from tasks.optimizer.isolation import Limits
from tasks.optimizer.source import take_in


class Attack:
    """Unpickled, it touches a marker file."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code-ran"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    exported = torch.export.export(
        torch.nn.Linear(4, 3).eval(), (torch.rand(2, 4),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(exported, path)
    return path


def crafted_program(program: Path, target: Path, changes: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            copy.writestr(name, changes.get(name.partition("/")[2], content))
    return target


def torch_saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def onnx_model() -> onnx.ModelProto:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def test_the_attack_works_on_pytorch_itself(program: Path, tmp_path: Path, marker: Path) -> None:
    """Without Burnish's checks this file runs its command: the next test would prove nothing otherwise."""
    crafted = crafted_program(
        program, tmp_path / "model.pt2", {"data/sample_inputs/model.pt": torch_saved(Attack(marker))}
    )
    with pytest.raises((AssertionError, TypeError)):
        torch.export.load(crafted)
    assert marker.exists()


def test_malicious_example_inputs_run_nothing(program: Path, tmp_path: Path, marker: Path) -> None:
    crafted = crafted_program(
        program, tmp_path / "model.pt2", {"data/sample_inputs/model.pt": torch_saved(Attack(marker))}
    )
    with pytest.raises(InputError, match="example inputs hold more than tensors"):
        take_in(crafted, tmp_path / "work")
    assert not marker.exists()


def test_a_shape_expression_runs_nothing(program: Path, tmp_path: Path, marker: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        graph = json.loads(archive.read("model/models/model.json"))
    size = graph["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0]
    size["as_expr"]["expr_str"] = f"__import__('os').system('touch {marker}')"
    crafted = crafted_program(program, tmp_path / "model.pt2", {"models/model.json": json.dumps(graph).encode()})
    with pytest.raises(Exception):  # noqa: B017  PyTorch itself runs the command and then stumbles over its result
        torch.export.load(crafted)
    assert marker.exists()
    marker.unlink()
    with pytest.raises(InputError, match="shape expression"):
        take_in(crafted, tmp_path / "work")
    assert not marker.exists()


def test_a_pickle_under_a_models_name_runs_nothing(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "model.pt2"
    for content in (pickle.dumps(Attack(marker)), torch_saved(Attack(marker))):
        path.write_bytes(content)
        with pytest.raises(InputError, match="pickle"):
            take_in(path, tmp_path / "work")
    assert not marker.exists()


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(InputError, match="TorchScript"):
        take_in(path, tmp_path / "work")


def test_a_good_program_comes_back_re_saved_under_its_own_digest(program: Path, tmp_path: Path) -> None:
    first = take_in(program, tmp_path / "one")
    second = take_in(program, tmp_path / "two")
    assert first.format is ArtifactFormat.EXPORTED_PROGRAM
    assert first.file.read_bytes() != program.read_bytes()
    assert first.ref() == second.ref()
    assert [path.name for path in first.folder.iterdir()] == ["model.pt2"]
    assert first.signature.batched


def test_a_good_onnx_model_comes_back_with_its_signature(tmp_path: Path) -> None:
    onnx.save(onnx_model(), tmp_path / "model.bin")
    taken = take_in(tmp_path / "model.bin", tmp_path / "work")
    assert taken.format is ArtifactFormat.ONNX
    assert isinstance(taken.signature, Signature)
    assert [(spec.name, spec.shape) for spec in taken.signature.inputs] == [("x", (None, 4))]


def test_truncated_onnx_is_refused(tmp_path: Path) -> None:
    content = onnx_model().SerializeToString()
    for size in (len(content) - 10, len(content) // 2, 8):
        path = tmp_path / f"model{size}.onnx"
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="not a complete ONNX model"):
            take_in(path, tmp_path / f"work{size}")


def test_onnx_that_reads_other_files_or_unknown_operators_is_refused(tmp_path: Path) -> None:
    outside = onnx_model()
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "secret").write_bytes(bytes(48))
    (tmp_path / "inner").mkdir()
    unknown = onnx_model()
    unknown.graph.node[0].domain = "evil.ops"
    unknown.opset_import.append(onnx.helper.make_opsetid("evil.ops", 1))
    for model, said in ((outside, "not a file beside the model"), (unknown, "domain 'evil.ops'")):
        path = tmp_path / "inner" / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match=said):
            take_in(path, tmp_path / "work")


def test_npz_with_objects_runs_nothing(tmp_path: Path, marker: Path) -> None:
    onnx.save(onnx_model(), tmp_path / "model.onnx")
    signature = take_in(tmp_path / "model.onnx", tmp_path / "work").signature
    np.savez(tmp_path / "set.npz", x=np.array([Attack(marker)], dtype=object))
    with pytest.raises(InputError, match="objects"):
        load_dataset(tmp_path / "set.npz", signature)
    assert not marker.exists()


def test_a_source_that_hangs_its_reader_is_given_up(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.optimizer.source._LIMITS", Limits(timeout_s=0.0))
    with pytest.raises(InputError, match=r"took longer than 0 s"):
        take_in(program, tmp_path / "work")
    assert isolation.LOG_FILE in {path.name for path in (tmp_path / "work").iterdir()}
