"""The question before any search, asked of networks trained on labels that are wrong by 5 to 50 %."""

from pathlib import Path

import pytest
import torch

from burnish.examples.digits import Split, load_digits_split, train_digits
from burnish.export import export_module
from registry.records.gate import Verdict
from registry.records.model import PluginConfig
from registry.records.optimization import OptimizationConfig
from serving.runtime import Array
from tasks.gates.rules import NOT_WORSE_THAN_CHAMPION, not_worse_than_champion
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import Dataset
from tasks.optimizer.isolation import predict
from tasks.optimizer.source import take_in

CONFIG = OptimizationConfig()


def answers(net: torch.nn.Module, split: Split, folder: Path) -> dict[str, Array]:
    """What a network answers, taken in and run as the flow does it."""
    folder.mkdir()
    program = export_module(net, (torch.from_numpy(split.train_x[:2]),))
    torch.export.save(program, folder / "model.pt2")
    source: Artifact = take_in(folder / "model.pt2", folder / "source")
    runtime = PluginConfig(name="torch_export")
    return predict(source, runtime, {"image": split.evaluation_x}, folder / "run", timeout_s=120)


@pytest.fixture(scope="module")
def split() -> Split:
    return load_digits_split()


@pytest.fixture(scope="module")
def champion(split: Split, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    return answers(train_digits(epochs=8), split, tmp_path_factory.mktemp("champion") / "source")


@pytest.mark.parametrize(
    "corrupted", [0.05, 0.5, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.1, 0.2, 0.35))]
)
def test_a_network_trained_on_wrong_labels_is_refused(
    corrupted: float, champion: dict[str, Array], split: Split, tmp_path: Path
) -> None:
    bad = answers(train_digits(seed=1, corrupted_labels=corrupted), split, tmp_path / "bad")
    dataset = Dataset({"image": split.evaluation_x}, split.evaluation_y)
    (outcome,) = not_worse_than_champion("the champion's evaluation set", dataset, champion, bad, CONFIG)
    assert (outcome.rule, outcome.verdict) == (NOT_WORSE_THAN_CHAMPION, Verdict.FAIL)
    assert outcome.figures["losses"] > outcome.figures["wins"]


def test_a_network_trained_for_longer_passes(champion: dict[str, Array], split: Split, tmp_path: Path) -> None:
    good = answers(train_digits(), split, tmp_path / "good")
    dataset = Dataset({"image": split.evaluation_x}, split.evaluation_y)
    (outcome,) = not_worse_than_champion("the champion's evaluation set", dataset, champion, good, CONFIG)
    assert outcome.verdict is Verdict.PASS
