"""The benchmark of the optimizer in short: one net hardly trained, hand-made lines that cost little, few passes."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import optimizer
from benchmarks.figures import NetFigures
from benchmarks.hand_made import onnx_runtime, pytorch
from benchmarks.hand_made.base import Line, Prepared
from benchmarks.hand_made.catalog import LINES
from benchmarks.nets.base import Training, trained
from benchmarks.nets.catalog import NETS
from benchmarks.nets.conv1d import SignalNet
from benchmarks.prepare import prepare

NET = "conv1d"
CHEAP = ("torch eager", "onnxruntime fp32")
UNKNOWN = "no such tool"


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """One net that is trained and searched in seconds, and the lines that are written in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        net = replace(
            NETS[NET],
            train=lambda: trained(SignalNet, lambda x_nchw: x_nchw.reshape(-1, 1, 64), Training(epochs=2)),
            config={"passes": ["export_onnx"], "runtimes": ["onnxruntime"]},
        )
        patch.setitem(NETS, NET, net)
        patch.setattr(optimizer, "PROCESSES", 1)
        for name in [name for name in LINES if name not in CHEAP]:
            patch.delitem(LINES, name)
        patch.setitem(LINES, UNKNOWN, LINES[CHEAP[0]])  # the process that shall write it does not know it
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared") / "net"


@pytest.fixture(scope="module")
def prepared(files: Path) -> Prepared:
    return prepare(NETS[NET], files)


def test_one_net_from_training_to_its_figures(prepared: Prepared, files: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path / "optimizer" / NET / "net")
    arguments = ["--nets", NET, "--budget", "0.2", "--seconds", "1", "--out", str(tmp_path)]
    done = CliRunner().invoke(optimizer.main, arguments)
    assert done.exit_code == 1, done.output  # four of five nets are missing
    figures = NetFigures.model_validate_json((tmp_path / "optimizer" / NET / "figures.json").read_text())
    assert [stand.batch_size for stand in figures.standings] == [1, 8]
    for stand in figures.standings:
        assert set(stand.p50_ms) == {"winner", *CHEAP}
        assert stand.best_line == "onnxruntime fp32"
        assert stand.fidelity is not None
        assert stand.fidelity.verdict == "pass"
    assert figures.failed_lines == {UNKNOWN: f"KeyError: {UNKNOWN!r}"}
    assert figures.times.first_best_s < figures.times.whole_s
    assert "missing: digits_cnn, lstm, encoder, resnet18" in done.output
    assert (tmp_path / "optimizer.json").is_file()


@pytest.mark.parametrize("line", [*pytorch.LINES[:2], *onnx_runtime.LINES], ids=lambda line: line.name)
def test_a_hand_made_line_answers_as_the_net_does(line: Line, prepared: Prepared, tmp_path: Path) -> None:
    line.write(prepared, tmp_path)
    series = prepared.samples.evaluation[:64]
    found = line.open(prepared, tmp_path)({"series": series})
    with torch.inference_mode():
        expected = prepared.module(torch.from_numpy(series)).numpy()
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
