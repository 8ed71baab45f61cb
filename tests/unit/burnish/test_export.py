from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import burnish
from burnish import export
from burnish.client import Client
from burnish.errors import InputError
from burnish.export import export_module
from burnish.replies import Optimization
from tests.unit.burnish.test_replies import optimization


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))

    def forward(self, image: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.inner(image) * scale


class FixedBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1) if x.shape[0] == 2 else x.reshape(1, -1)


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


IMAGE, SCALE = torch.ones(1, 3), torch.ones(1, 2)


def input_shapes(program: torch.export.ExportedProgram) -> dict[str, list[object]]:
    users = set(program.graph_signature.user_inputs)
    placeholders = program.graph.find_nodes(op="placeholder")
    return {node.name: list(node.meta["val"].shape) for node in placeholders if node.name in users}


@pytest.mark.parametrize(
    "example",
    [(IMAGE, SCALE), {"scale": SCALE, "image": IMAGE}, (torch.ones(4, 3), torch.ones(4, 2))],
    ids=["one sample", "by name", "four samples"],
)
def test_inputs_have_forwards_names_and_a_batch_that_varies(example: object) -> None:
    module = Scaled()
    module.inner[0].eval()
    program = export_module(module, example)
    shapes = input_shapes(program)
    assert set(shapes) == {"image", "scale"}
    assert all(isinstance(shape[0], torch.SymInt) for shape in shapes.values())
    assert module.training
    assert not module.inner[0].training

    torch.manual_seed(0)
    image, scale = torch.rand(5, 3), torch.rand(5, 2)
    torch.testing.assert_close(program.module()(image, scale), module.eval()(image, scale))


def test_a_module_that_fixes_its_batch_is_exported_so_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="FixedBatch cannot be exported with a batch that varies.* exactly 1"):
        program = export_module(FixedBatch(), torch.ones(1, 4))
    assert input_shapes(program) == {"x": [1, 4]}


def test_inputs_without_a_shared_axis_are_exported_as_they_are() -> None:
    program = export_module(Scaled(), (torch.ones(4, 3), torch.ones(2)))
    assert input_shapes(program) == {"image": [4, 3], "scale": [2]}


@pytest.mark.filterwarnings("ignore:Branches cannot be exported with a batch")
@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (Branches(), torch.ones(2, 2), "torch.export cannot export Branches"),
        (Scaled(), (IMAGE,), "missing a required argument: 'scale'"),
        (Scaled(), {"image": IMAGE, "scale": 2.0}, "scale is a float"),
        (Scaled(), {"picture": IMAGE, "scale": SCALE}, "do not fit forward"),
    ],
)
def test_what_cannot_be_exported_is_an_input_error(module: nn.Module, example: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_module(module, example)


class Recorder(Client):
    """Keeps what would be sent."""

    sent: dict[str, object]
    closed = False

    def push_files(self, model_path, name, evaluation, calibration=None, config=None, *, on_sent=None) -> Optimization:  # type: ignore[no-untyped-def]  # noqa: ANN001
        program = torch.export.load(model_path)
        with np.load(evaluation) as arrays:
            shapes = {key: arrays[key].shape for key in arrays.files}
        self.sent = {"name": name, "inputs": input_shapes(program), "evaluation": shapes, "config": config}
        self.sent["calibration"] = Path(calibration).name if calibration else None
        return optimization(state="queued")

    def wait(self, optimization_id, on_update=None, timeout_s=None) -> Optimization:  # type: ignore[no-untyped-def]  # noqa: ANN001
        return optimization(id=optimization_id, state="released")

    def close(self) -> None:
        self.closed = True
        super().close()


def test_push_sends_the_program_and_its_sets() -> None:
    client = Recorder()
    evaluation = (np.zeros((7, 3), np.float32), np.zeros(7, np.int64))
    outcome = burnish.push(
        nn.Linear(3, 2),
        "tiny",
        example_inputs=(IMAGE,),
        evaluation=evaluation,
        calibration=evaluation[0],
        client=client,
    )
    assert outcome.released
    assert client.sent["name"] == "tiny"
    assert client.sent["evaluation"] == {"input": (7, 3), "label": (7,)}
    assert client.sent["calibration"] == "calibration.npz"
    assert not client.closed
    queued = export.push(
        nn.Linear(3, 2), "tiny", example_inputs=IMAGE, evaluation=evaluation, wait=False, client=client
    )
    assert not queued.finished


def test_push_without_an_evaluation_set_is_refused() -> None:
    with pytest.raises(InputError, match="evaluation set is needed"):
        burnish.push(nn.Linear(3, 2), "tiny", example_inputs=IMAGE, evaluation=None)
