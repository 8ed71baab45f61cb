"""The nets of the benchmark: what they take and answer, and that a kept net is the one that was trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.nets.base import Training, trained
from benchmarks.nets.catalog import NETS
from benchmarks.nets.conv1d import SignalNet
from benchmarks.nets.resnet18 import random_images
from benchmarks.prepare import PROGRAM_FILE, prepare


@pytest.mark.parametrize("name", [name for name in NETS if name != "resnet18"])
def test_a_net_on_digits_takes_its_samples_and_has_labels_for_all(name: str) -> None:
    samples = NETS[name].samples()
    assert samples.labels is not None
    assert len(samples.labels) == len(samples.evaluation) >= 400
    assert samples.evaluation[:1].strides == np.zeros(samples.evaluation[:1].shape, samples.evaluation.dtype).strides
    with torch.inference_mode():
        assert NETS[name].build().eval()(torch.from_numpy(samples.evaluation[:3])).shape == (3, 10)


def test_resnet18_has_its_well_known_size() -> None:
    net = NETS["resnet18"].build().eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_689_512
    with torch.inference_mode():
        assert net(torch.from_numpy(random_images(1, seed=0))).shape == (1, 1000)


def test_training_gives_the_same_net_every_time_and_prepare_keeps_it(tmp_path: Path) -> None:
    how = Training(epochs=1)
    net = replace(NETS["conv1d"], train=lambda: trained(SignalNet, lambda x: x.reshape(-1, 1, 64), how))
    first = prepare(net, tmp_path / "net")
    written = (tmp_path / "net" / PROGRAM_FILE).stat().st_mtime_ns
    kept = prepare(net, tmp_path / "net")
    again = prepare(net, tmp_path / "other")
    assert (tmp_path / "net" / PROGRAM_FILE).stat().st_mtime_ns == written
    for weights in first.module.state_dict():
        assert torch.equal(first.module.state_dict()[weights], kept.module.state_dict()[weights])
        assert torch.equal(first.module.state_dict()[weights], again.module.state_dict()[weights])
