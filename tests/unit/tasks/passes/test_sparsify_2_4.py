"""Two of four: the pattern holds after the distillation and in the file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, PassContext
from tasks.optimizer.source_program import program_signature
from tasks.passes.sparsify_2_4 import Sparsify24

ROWS = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)


def source(module: nn.Module, folder: Path) -> tuple[Artifact, PassContext]:
    example = torch.from_numpy(ROWS[:2])
    program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, folder / "model.pt2")
    artifact = Artifact(folder, ArtifactFormat.EXPORTED_PROGRAM, program_signature(program))
    workspace = folder / "work"
    workspace.mkdir()
    return artifact, PassContext(workspace, artifact, {artifact.signature.inputs[0].name: ROWS})


@pytest.mark.parametrize("algorithm", ["magnitude", "sparsegpt"])
def test_of_four_neighbouring_weights_two_are_zero(algorithm: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
    artifact, context = source(module, tmp_path)
    step = Sparsify24(algorithm=algorithm, steps=20)
    weights = torch.export.load(step.apply(artifact, context).file).state_dict
    learned = [weights["0.weight"], weights["2.weight"]]
    for weight, before in zip(learned, (module[0].weight, module[2].weight), strict=True):
        zeros = (weight.reshape(-1, 4) == 0).sum(1)
        assert zeros.min() == zeros.max() == 2
        assert not torch.isin(weight[weight != 0], before.detach()).all()  # type: ignore[operator]


def test_a_program_without_such_layers_is_refused(tmp_path: Path) -> None:
    artifact, context = source(nn.Sequential(nn.LayerNorm(32)), tmp_path)
    with pytest.raises(CandidateError, match="weights come in fours"):
        Sparsify24().apply(artifact, context)
