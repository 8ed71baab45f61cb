"""Compiling what another pass has written: a program cast to bfloat16."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from registry.records.model import ArtifactFormat
from serving.runtimes.aot_inductor import AotInductor
from tasks.optimizer.base import Artifact, PassContext
from tasks.optimizer.source_program import program_signature
from tasks.passes.cast_bfloat16 import CastBfloat16
from tasks.passes.compile_aot_inductor import CompileAotInductor


@pytest.mark.skipif(bool(CastBfloat16.unavailable()), reason="this CPU has no bfloat16")
@pytest.mark.skipif(bool(CompileAotInductor.unavailable()), reason="there is no C++ compiler")
def test_a_program_cast_to_bfloat16_compiles_and_answers_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 4)).eval()
    images = torch.randn(5, 3, 6, 6)
    program = torch.export.export(module, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "model.pt2")
    source = Artifact(tmp_path, ArtifactFormat.EXPORTED_PROGRAM, program_signature(program))
    made = source
    for step in (CastBfloat16(), CompileAotInductor()):
        workspace = tmp_path / step.stage.name
        workspace.mkdir()
        made = step.apply(made, PassContext(workspace, source, {}))
    (name,) = (spec.name for spec in source.signature.inputs)
    answer = AotInductor().load(made.folder, made.format, made.signature).run({name: images.numpy()})["output_0"]
    with torch.no_grad():
        wanted = module(images).numpy()
    assert answer.dtype == np.float32
    assert 0 < np.abs(answer - wanted).max() < 0.05 * wanted.std()
