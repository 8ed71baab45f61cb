"""FastNAS on a user's module: fewer parameters in the program; source code that does not fit is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, PluginConfig
from tasks.optimizer.base import Artifact, Pass, PassContext, build_pass
from tasks.optimizer.source_program import program_signature

CODE = """
from torch import nn


def build():
    body = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 16, 3))
    return nn.Sequential(body, nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def narrower():
    return nn.Sequential(nn.Conv2d(1, 16, 3))


def nothing():
    return None
"""
IMAGES = np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32)


@pytest.fixture
def step() -> Pass:
    pytest.importorskip("torchprofile", reason="FastNAS needs torchprofile")
    return build_pass(PluginConfig(name="prune_fastnas", knobs={"steps": 30, "measure": "params"}))


def source(folder: Path) -> tuple[Artifact, Path]:
    code = folder / "user_net.py"
    code.write_text(CODE)
    namespace: dict[str, object] = {}
    exec(CODE, namespace)
    torch.manual_seed(0)
    module = namespace["build"]().eval()  # type: ignore[operator]  # the function above
    example = (torch.from_numpy(IMAGES[:2]),)
    program = torch.export.export(module, example, dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, folder / "model.pt2")
    (folder / "work").mkdir()
    return Artifact(folder, ArtifactFormat.EXPORTED_PROGRAM, program_signature(program)), code


def context(artifact: Artifact, source_code: str | None) -> PassContext:
    return PassContext(artifact.folder / "work", artifact, {artifact.signature.inputs[0].name: IMAGES}, source_code)


def test_the_subnet_that_is_found_is_smaller_and_has_the_same_signature(step: Pass, tmp_path: Path) -> None:
    artifact, code = source(tmp_path)
    produced = step.apply(artifact, context(artifact, f"{code}:build"))

    def parameters(file: Path) -> int:
        return sum(tensor.numel() for tensor in torch.export.load(file).state_dict.values())

    assert parameters(produced.file) <= 0.6 * parameters(artifact.file)
    assert program_signature(torch.export.load(produced.file)) == artifact.signature


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (None, "source code only"),
        ("no_such_function", "does not build a module"),
        ("nothing", "returns a NoneType"),
        ("narrower", "another module than the program's"),
    ],
)
def test_source_code_that_does_not_fit_is_refused(
    function: str | None, reason: str, step: Pass, tmp_path: Path
) -> None:
    artifact, code = source(tmp_path)
    with pytest.raises(CandidateError, match=reason):
        step.apply(artifact, context(artifact, f"{code}:{function}" if function else None))
