"""The checks on an exported program that need no child process: every string that PyTorch would trust is refused."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry.errors import InputError
from registry.records.model import Datatype, TensorSpec
from tasks.optimizer.program_archive import clean_copy
from tasks.optimizer.source import take_in
from tasks.optimizer.source_program import program_signature, resave

Edit = Callable[[dict[str, Any]], None]


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, token: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.linear(x), "mask": token.view(-1, token.size(1) * 2).sum(1)}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    batch = {0: torch.export.Dim("batch")}
    inputs = (torch.rand(2, 4), torch.rand(2, 6, 2))
    exported = torch.export.export(
        Tiny().eval(), inputs, dynamic_shapes=(batch, {**batch, 1: torch.export.Dim("length")})
    )
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    torch.export.save(exported, path)
    return path


def rewritten(program: Path, target: Path, changes: dict[str, bytes | None], compression: int = 0) -> Path:
    """Copy an archive with members replaced, added (bytes) or left out (None)."""
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(target, "w", compression) as copy:
        root = source.namelist()[0].split("/")[0]
        members = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
        for name, content in {**members, **changes}.items():
            if content is not None:
                copy.writestr(f"{root}/{name}", content)
    return target


def edited(program: Path, target: Path, edit: Edit, member: str = "models/model.json") -> Path:
    """Copy an archive with one JSON member edited."""
    with zipfile.ZipFile(program) as source:
        root = source.namelist()[0].split("/")[0]
        value = json.loads(source.read(f"{root}/{member}"))
    edit(value)
    return rewritten(program, target, {member: json.dumps(value).encode()})


def test_a_clean_copy_computes_the_same_and_names_its_tensors(program: Path, tmp_path: Path) -> None:
    clean_copy(program, tmp_path / "clean.pt2")
    loaded = torch.export.load(tmp_path / "clean.pt2")
    inputs = (torch.rand(5, 4), torch.rand(5, 3, 2))
    expected = torch.export.load(program).module()(*inputs)
    found = loaded.module(check_guards=False)(*inputs)
    assert torch.equal(found["logits"], expected["logits"])
    signature = program_signature(loaded)
    assert signature.inputs[1] == TensorSpec(name="token", datatype=Datatype.FP32, shape=(None, None, 2))
    assert [spec.name for spec in signature.outputs] == ["logits", "mask"]
    assert signature.batched


def test_a_clean_copy_holds_no_traces_of_where_it_was_made_and_is_the_same_each_time(
    program: Path, tmp_path: Path
) -> None:
    clean_copy(program, tmp_path / "one.pt2")
    clean_copy(tmp_path / "one.pt2", tmp_path / "two.pt2")
    one = (tmp_path / "one.pt2").read_bytes()
    assert one == (tmp_path / "two.pt2").read_bytes()
    assert b"stack_trace" in program.read_bytes()
    assert b"stack_trace" not in one


def _first_node(graph: dict[str, Any]) -> dict[str, Any]:
    node: dict[str, Any] = graph["graph_module"]["graph"]["nodes"][0]
    return node


def _expression(graph: dict[str, Any]) -> dict[str, Any]:
    sizes = graph["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
    found: dict[str, Any] = sizes[0]["as_expr"]
    return found


def _call(graph: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = graph["graph_module"]["module_call_graph"][0]["signature"]
    return found


def _script_object(graph: dict[str, Any]) -> None:
    graph["graph_module"]["graph"]["custom_obj_values"] = {"o": {"name": "o", "class_fqn": "__torch__.Evil"}}


GRAPH_ATTACKS: dict[str, tuple[Edit, str]] = {
    "shape expression": (lambda g: _expression(g).update(expr_str="__import__('os').system('id')"), "shape expression"),
    "attribute": (lambda g: _expression(g).update(expr_str="Symbol('s1').free_symbols"), "shape expression"),
    "any callable": (lambda g: _first_node(g).update(target="torch.serialization.os.system"), "tensor operators"),
    "file reader": (lambda g: _first_node(g).update(target="torch.ops.aten.from_file.default"), "tensor operators"),
    "custom operator": (lambda g: _first_node(g).update(target="torch.ops.evil.run.default"), "tensor operators"),
    "argument name": (lambda g: _call(g).update(forward_arg_names=["x=__import__('os')"]), "the name"),
    "tree of objects": (
        lambda g: _call(g).update(in_spec='[1,{"type":"evil.T","context":"null","children_spec":[]}]'),
        "'evil.T'",
    ),
    "enum in a tree": (
        lambda g: _call(g).update(
            in_spec='[1,{"type":"builtins.dict","context":"{\\"__enum__\\":1,\\"fqn\\":\\"os:x\\"}","children_spec":[]}]'
        ),
        "use plain words",
    ),
    "script object": (_script_object, "script object"),
    "value name": (lambda g: _first_node(g).update(name='x"); import os; ("'), "the name"),
}


@pytest.mark.parametrize("attack", GRAPH_ATTACKS)
def test_code_hidden_in_the_graph_is_refused(program: Path, tmp_path: Path, attack: str) -> None:
    edit, said = GRAPH_ATTACKS[attack]
    with pytest.raises(InputError, match=said):
        clean_copy(edited(program, tmp_path / "crafted.pt2", edit), tmp_path / "clean.pt2")


def test_guards_are_left_out_unread(program: Path, tmp_path: Path) -> None:
    crafted = edited(program, tmp_path / "crafted.pt2", lambda g: g.update(guards_code=["__import__('os').abort()"]))
    clean_copy(crafted, tmp_path / "clean.pt2")
    assert b"abort" not in (tmp_path / "clean.pt2").read_bytes()


def test_pickled_weights_are_refused(program: Path, tmp_path: Path) -> None:
    member = "data/weights/model_weights_config.json"
    crafted = edited(
        program, tmp_path / "crafted.pt2", lambda c: c["config"]["linear.bias"].update(use_pickle=True), member
    )
    with pytest.raises(InputError, match=r"'linear\.bias' is pickled"):
        clean_copy(crafted, tmp_path / "clean.pt2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data/constants/opaque_obj_0": pickle.dumps(1)}, "opaque_obj_0"),
        ({"data/constants/custom_obj_0": b"x"}, "custom_obj_0"),
        ({"data/weights/model.pt": b"x"}, r"weights/model\.pt"),
        ({"code/__torch__.py": b"x"}, "code/__torch__"),
        ({"../escape": b"x"}, r"\.\./escape"),
        ({"data/aotinductor/model/a.so": b"x"}, "aotinductor"),
        ({"data/weights/weight_0": None}, "weight_0 is missing"),
        ({"models/model.json": None}, r"models/model\.json is missing"),
        ({"models/model.json": b"[" * 100_000}, "not valid JSON"),
        ({"models/model.json": b"[]"}, "not an exported program's graph"),
        ({"archive_format": b"zip"}, "archive_format"),
        ({"data/sample_inputs/model.pt": bytes(65 << 20)}, "example inputs take"),
    ],
)
def test_unknown_missing_and_broken_members_are_refused(
    program: Path, tmp_path: Path, changes: dict[str, bytes | None], said: str
) -> None:
    crafted = rewritten(program, tmp_path / "crafted.pt2", changes)
    with pytest.raises(InputError, match=said):
        clean_copy(crafted, tmp_path / "clean.pt2")


def test_a_compression_bomb_is_refused_before_it_is_unpacked(program: Path, tmp_path: Path) -> None:
    bomb: dict[str, bytes | None] = {"data/weights/weight_9": bytes(50 << 20)}
    crafted = rewritten(program, tmp_path / "crafted.pt2", bomb, compression=zipfile.ZIP_DEFLATED)
    assert crafted.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="compressed"):
        clean_copy(crafted, tmp_path / "clean.pt2")


def test_a_cut_archive_is_refused(program: Path, tmp_path: Path) -> None:
    cut = tmp_path / "model.pt2"
    cut.write_bytes(program.read_bytes()[:-200])
    with pytest.raises(InputError, match="damaged archive"):
        take_in(cut, tmp_path / "work")


def _scripted(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/code/__torch__.py", "import os")
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/data.pkl", b"")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is a pickle"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=0)), "is a pickle"),
        (lambda path: torch.save({"a": torch.ones(1)}, path), "written by torch.save"),
        (lambda path: torch.save({"a": 1}, path, _use_new_zipfile_serialization=False), "is a pickle"),
        (_scripted, "TorchScript"),
        (lambda path: path.write_bytes(b""), "has 0 bytes"),
        (lambda path: path.write_bytes(b"hello"), "neither an exported program"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "does not exist"),
        (lambda path: np.savez(path.open("wb"), x=np.ones(2)), "not an exported program"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    path = tmp_path / "model.pt2"
    make(path)
    with pytest.raises(InputError, match=said):
        take_in(path, tmp_path / "work")
    assert not (tmp_path / "work").exists()


class Counting(torch.nn.Module):
    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return x + self.calls


class Half(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.bfloat16)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Counting(), "writes into 'calls'"),
        (torch.nn.BatchNorm1d(3).train(), "writes into 'running_mean'|writes into 'num_batches"),
        (torch.nn.Dropout(0.5).train(), "other answers for the same inputs"),
        (Half(), "bfloat16"),
    ],
)
def test_programs_that_cannot_be_served_say_why(tmp_path: Path, module: torch.nn.Module, said: str) -> None:
    torch.export.save(torch.export.export(module, (torch.rand(8, 3),)), tmp_path / "model.pt2")
    with pytest.raises(InputError, match=said):
        resave(tmp_path / "model.pt2", tmp_path / "resaved.pt2")


def test_a_fixed_batch_is_a_signature_that_is_not_batched() -> None:
    program = torch.export.export(torch.nn.Linear(3, 2), (torch.rand(1, 3),))
    signature = program_signature(program)
    assert signature.inputs[0].shape == (1, 3)
    assert not signature.batched
