"""Lifting: the same numbers, modules where calls were, weights that are shared left alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from registry.digest import file_digest
from registry.errors import CandidateError
from registry.records.model import Datatype, Signature, TensorSpec
from tasks.optimizer.lifting import export_again, lift, save_program


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding="same", groups=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)
        )
        self.head = nn.Linear(4 * 2 * 2, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.body(x)
        return {"logits": self.head(x.flatten(1)), "total": x.sum((1, 2, 3))}


class Twice(nn.Module):
    """One linear layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.relu(self.layer(x)))


class Tied(nn.Module):
    """A linear layer whose weight is an embedding's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        self.free = nn.Linear(6, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.free(self.head(self.embedding(tokens).mean(1)))


def exported(module: nn.Module, example: Tensor) -> ExportedProgram:
    torch.manual_seed(0)
    for norm in (layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)):
        norm.running_mean, norm.running_var = torch.randn(norm.num_features), torch.rand(norm.num_features) + 0.5
    return torch.export.export(module.eval(), (example,), dynamic_shapes=({0: Dim("batch")},))


IMAGES = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 2, 4, 4)),),
    outputs=(
        TensorSpec(name="logits", datatype=Datatype.FP32, shape=(None, 3)),
        TensorSpec(name="total", datatype=Datatype.FP32, shape=(None,)),
    ),
)


def test_lifts_layers_under_their_names_with_equal_results() -> None:
    program = exported(ConvNet(), IMAGES)
    wanted = program.module()(IMAGES)
    lifted = lift(program)
    assert lifted.lifted == ("body.0", "body.1", "body.3", "head")
    assert lifted.left == ()
    assert isinstance(lifted.module.get_submodule("body.0"), nn.Conv2d)
    assert isinstance(lifted.module.get_submodule("body.1"), nn.BatchNorm2d)
    logits, total = lifted.module(IMAGES)
    assert torch.equal(logits, wanted["logits"])
    assert torch.equal(total, wanted["total"])


def test_a_layer_called_twice_is_one_module() -> None:
    program = exported(Twice(), torch.randn(2, 4))
    lifted = lift(program)
    assert lifted.lifted == ("layer",)
    assert len(lifted.module.graph.find_nodes(op="call_module", target="layer")) == 2
    example = torch.randn(5, 4)
    assert torch.equal(lifted.module(example)[0], program.module()(example))


def test_a_weight_with_two_uses_stays_and_is_told() -> None:
    program = exported(Tied(), torch.zeros(2, 3, dtype=torch.int64))
    lifted = lift(program)
    assert lifted.lifted == ("free",)
    assert {call.partition("(")[0] for call in lifted.left} == {"aten.embedding.default", "aten.linear.default"}
    tokens = torch.tensor([[0, 5, 2], [1, 1, 4]])
    assert torch.equal(lifted.module(tokens)[0], program.module()(tokens))


def test_flattening_does_not_fix_the_channels_before_it() -> None:
    lifted = lift(exported(ConvNet(), IMAGES))
    assert [node.args[1] for node in lifted.module.graph.find_nodes(op="call_function", target=torch.flatten)] == [1]


def test_exporting_again_keeps_the_batch_dynamic_even_from_a_single_sample() -> None:
    program = exported(ConvNet(), IMAGES)
    again = export_again(lift(program).module, SIGNATURE, {"x": IMAGES[:1].numpy()})
    assert list(again.graph_signature.user_inputs) == ["x"]
    many = torch.randn(7, 2, 4, 4)
    torch.testing.assert_close(again.module()(many)[0], program.module()(many)["logits"])


def test_a_size_that_cannot_vary_is_a_reason() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(4, 16)

    module = lift(torch.export.export(Fixed(), (torch.zeros(2, 2, 4, 4),))).module
    with pytest.raises(CandidateError, match="cannot be exported again"):
        export_again(module, SIGNATURE, {"x": IMAGES[:2].numpy()})


def test_saved_programs_of_equal_modules_are_equal_and_tell_no_paths(tmp_path: Path) -> None:
    digests, module = set(), ConvNet()
    for attempt in ("first", "second"):
        file = tmp_path / attempt / "model.pt2"
        file.parent.mkdir()
        save_program(exported(module, IMAGES), file)
        assert str(Path(__file__).parent).encode() not in file.read_bytes()
        digests.add(file_digest(file))
    assert len(digests) == 1
