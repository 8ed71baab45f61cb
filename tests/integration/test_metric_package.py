"""A metric of a separately installed package decides over the candidates of a search."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from registry.records.optimization import CandidateStatus, OptimizationResult
from tests.integration.test_optimize_alone import two_layers

PACKAGE = Path(__file__).parents[1] / "plugin_package"
BURNISH = Path(sys.executable).parent / "burnish"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves it: the package, and what it announces."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE / "burnish_example", folder / "burnish_example")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / "burnish_example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: burnish-example\nVersion: 1.0\n")
    points = project["entry-points"]["burnish.metrics"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in points)
    (info / "entry_points.txt").write_text(f"[burnish.metrics]\n{lines}")
    return folder


def optimize(site: Path, metric: str, folder: Path) -> subprocess.CompletedProcess[str]:
    asked = {"metric": metric, "passes": ["quantize_static_int8"], "runtimes": ["onnxruntime"], "batch_sizes": [1]}
    (folder / "config.yaml").write_text(json.dumps(asked | {"budget_minutes": 5.0}))
    x = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    np.savez(folder / "evaluation.npz", x=x, slice=np.where(x[:, 0] > 0, "right", "left"))
    np.savez(folder / "calibration.npz", x=np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32))
    command = [BURNISH, "optimize", two_layers(folder / "model.onnx"), "--eval", folder / "evaluation.npz"]
    command += [
        "--calibration",
        folder / "calibration.npz",
        "--config",
        folder / "config.yaml",
        "--out",
        folder / "out",
    ]
    environment = os.environ | {"PYTHONPATH": str(site), "BURNISH_HOME": str(folder / "home")}
    return subprocess.run(
        [str(part) for part in (*command, "--json")],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_it_scores_every_candidate_and_its_slices(site: Path, tmp_path: Path) -> None:
    done = optimize(site, "agreement", tmp_path)
    assert done.returncode == 0, done.stderr
    result = OptimizationResult.model_validate_json(done.stdout)
    assert result.metric == "agreement"
    assert result.baseline is not None
    assert result.baseline.score is not None
    assert result.baseline.score.estimate == 1
    quantized = next(one for one in result.candidates if "int8" in one.candidate.label)
    assert quantized.status in (CandidateStatus.REFUSED, CandidateStatus.MEASURED), quantized.reason
    assert quantized.score is not None
    assert 0.8 < quantized.score.estimate < 1
    assert quantized.worst_slice is not None
    assert quantized.worst_slice.slice in ("left", "right")


def test_an_unknown_metric_ends_the_search_before_it_begins(site: Path, tmp_path: Path) -> None:
    done = optimize(site, "agrement", tmp_path)
    assert done.returncode == 2
    assert "there is no metric 'agrement'; known: auto, top1, cosine, error, ranking, agreement" in done.stderr
    assert not (tmp_path / "out").exists()
