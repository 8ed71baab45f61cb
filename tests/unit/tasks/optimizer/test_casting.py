"""Casting: everything inside computes in the narrow type, inputs and outputs keep theirs, the numbers stay near."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from tasks.optimizer.casting import cast
from tasks.optimizer.lifting import export_again, lift, save_program
from tasks.optimizer.source_program import program_signature


class Images(nn.Module):
    """Convolutions, one transposed, a norm, a stored tensor that is added; a softmax that asks for float32."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2))
        self.offset = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x) + self.offset
        return torch.softmax(y.mean((2, 3)), dim=1, dtype=torch.float32), y.argmax(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(4, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.lstm(x)[0])[0]


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(self.embedding(tokens)).mean(1)


INPUTS = {
    "images": (Images, torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))),
    "recurrent": (Recurrent, torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))),
    "tokens": (Tokens, torch.arange(18).reshape(3, 6) % 9),
}


def program_of(kind: str) -> ExportedProgram:
    torch.manual_seed(0)
    build, x = INPUTS[kind]
    return torch.export.export(build().eval(), (x,), dynamic_shapes=({0: Dim("batch")},))


def again(program: ExportedProgram, module: fx.GraphModule, x: Tensor) -> ExportedProgram:
    signature = program_signature(program)
    return export_again(module, signature, {signature.inputs[0].name: x.numpy()})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", INPUTS)
def test_computes_in_the_type_and_answers_in_the_old_one(kind: str, dtype: torch.dtype) -> None:
    program, (_, x) = program_of(kind), INPUTS[kind]
    found = again(program, cast(lift(program).module, dtype, channels_last=True), x)
    weights = {tensor.dtype for tensor in found.state_dict.values() if tensor.is_floating_point()}
    assert weights == {dtype}
    inner = [node.meta["val"] for node in found.graph.nodes if node.op == "call_function"]
    float32 = [value for value in inner if isinstance(value, Tensor) and value.dtype is torch.float32]
    assert len(float32) == 1  # the output
    one_more = torch.cat([x, x[:1]])
    wanted, got = program.module()(one_more), found.module()(one_more)
    first, expected = (value[0] if isinstance(value, tuple) else value for value in (got, wanted))
    assert first.dtype is torch.float32
    assert (first - expected).abs().max() < 0.05 * expected.std()


def test_images_and_kernels_lie_channels_last_and_stay_so_when_saved(tmp_path: Path) -> None:
    program, (_, x) = program_of("images"), INPUTS["images"]
    for channels_last in (True, False):
        module = cast(lift(program).module, torch.bfloat16, channels_last=channels_last)
        save_program(again(program, module, x), tmp_path / "model.pt2")
        kernels = [one for one in torch.export.load(tmp_path / "model.pt2").state_dict.values() if one.dim() == 4]
        assert [kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels] == [channels_last] * 2


def test_the_program_that_was_lifted_keeps_its_weights() -> None:
    program = program_of("images")
    before = {name: tensor.clone() for name, tensor in program.state_dict.items()}
    cast(lift(program).module, torch.bfloat16, channels_last=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in program.state_dict.items())
    assert all(tensor.dtype is torch.float32 for tensor in program.state_dict.values())
