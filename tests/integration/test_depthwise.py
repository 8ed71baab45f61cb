"""A mobile net that plain int8 damages: fidelity refuses it, repair leaves two layers in float, that one passes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks.depthwise import (
    SPREAD_BLOCK,
    InvertedResidual,
    MobileDigits,
    damaged,
    excluded_layers,
    mended,
    search_request,
    spread,
    write_source,
)
from registry.records.optimization import OptimizationConfig, OptimizationResult
from tasks.optimizer.search import Search
from tasks.optimizer.space import Planned

RUINED = {f"blocks.{SPREAD_BLOCK}.expand", f"blocks.{SPREAD_BLOCK}.depthwise"}
"""Between these two lie the channels that a uint8 per tensor cannot hold."""
CONFIG = OptimizationConfig(
    passes=("export_onnx", "quantize_static_int8"), runtimes=("onnxruntime",), batch_sizes=(1,), budget_minutes=4.0
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OptimizationResult]:
    """A search that ends when the repairs of the plain candidate have been tried."""
    folder = tmp_path_factory.mktemp("depthwise")
    with pytest.MonkeyPatch.context() as patch:  # who is fastest is not asked here
        patch.setattr("tasks.optimizer.measurement.SCREENING_SECONDS", 0.1)
        patch.setattr("tasks.optimizer.measurement.FINAL_SECONDS", 1.0)
        search = Search(search_request(write_source(folder / "source"), folder, CONFIG), lambda _: None)
        search.start()
        while (planned := search.next()) and not _repaired(search, planned):
            search.attempt(planned)
        yield search.finish()


def _repaired(search: Search, following: Planned) -> bool:
    return following.repairs is None and bool(mended(search.progress.results))


def test_fidelity_refuses_plain_int8_that_loses_more_than_the_margin(result: OptimizationResult) -> None:
    assert result.baseline is not None
    assert result.baseline.score is not None
    assert result.baseline.score.estimate > 0.95
    (plain, *_) = damaged(result.candidates)
    assert plain.candidate.label == "export_onnx > quantize_static_int8 @ onnxruntime"
    assert plain.score is not None
    assert plain.score.estimate < result.baseline.score.estimate - 0.02
    assert plain.comparison is not None
    assert plain.comparison.first_diverging_layer in RUINED


def test_the_layers_that_were_ruined_cost_most(result: OptimizationResult) -> None:
    assert result.sensitivity is not None
    first, second, third, *_ = result.sensitivity.layers
    assert {first.layer, second.layer} == RUINED
    assert second.error > 100 * third.error


def test_a_repair_passes_with_these_layers_in_float(result: OptimizationResult) -> None:
    passed = mended(result.candidates)
    assert any(set(excluded_layers(one)) == RUINED for one in passed)
    refused = {one.candidate.id for one in damaged(result.candidates)}
    assert all(one.repairs in refused for one in passed)
    assert all(one.fidelity is not None and one.fidelity.verdict == "pass" for one in passed)


def test_fewer_layers_are_tried_and_refused(result: OptimizationResult) -> None:
    tries = [one for one in result.candidates if one.repairs and len(excluded_layers(one)) == 1]
    assert tries
    assert not any(one.gate.passed for one in tries)


def test_spreading_the_channels_changes_no_answer() -> None:
    torch.manual_seed(0)
    net = MobileDigits().eval()
    images = torch.from_numpy(np.random.default_rng(0).random((16, 1, 8, 8), np.float32))
    with torch.no_grad():
        before = net(images)
        block = net.blocks[SPREAD_BLOCK]
        assert isinstance(block, InvertedResidual)
        spread(block, seed=SPREAD_BLOCK)
        assert torch.equal(net(images), before)
