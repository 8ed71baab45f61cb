"""A small mobile net whose depthwise convolutions plain int8 damages, and what mends it: trained here, on real digits.

Shape legend: n samples, c channels, h height, w width, k classes.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from burnish.examples.digits import load_digits_split
from registry.plugins import PASSES, plugin_names
from registry.records.model import ArtifactFormat
from registry.records.optimization import CandidateResult, CandidateStatus, OptimizationConfig, OptimizationResult
from serving.runtime import Arrays
from tasks.bench.compare import SpeedDifference
from tasks.bench.measure import Plan
from tasks.bench.process import BenchItem, benchmark
from tasks.gates.rules import FIDELITY
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import Dataset
from tasks.optimizer.request import SearchRequest
from tasks.optimizer.search import optimize
from tasks.optimizer.source_program import program_signature

CHANNELS = 64
BLOCKS = 4
EXPANSION = 3
EPOCHS = 10
_BATCH_SIZE = 48
_LEARNING_RATE = 6e-3
SPREAD_BLOCK = 2
_SPREAD = 14
"""Powers of two that the channels of a spread layer differ by: a uint8 per tensor holds less than eight."""

PASSES_OF_INT8 = ("quantize_static_int8", "quantize_nncf", "quantize_modelopt")


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; beside a shortcut.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018
    """

    def __init__(self, channels: int) -> None:
        """Make the layers."""
        super().__init__()
        hidden = EXPANSION * channels
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(channels)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return a tensor of the input's shape."""
        y_nchw = torch.relu(self.expand_norm(self.expand(x_nchw)))
        y_nchw = torch.relu(self.depthwise_norm(self.depthwise(y_nchw)))
        return x_nchw + self.project_norm(self.project(y_nchw))


class MobileDigits(nn.Module):
    """A mobile net on images [n, 1, 8, 8]."""

    def __init__(self) -> None:
        """Make the layers."""
        super().__init__()
        self.stem = nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(CHANNELS)
        self.blocks = nn.Sequential(*(InvertedResidual(CHANNELS) for _ in range(BLOCKS)))
        self.head = nn.Linear(CHANNELS, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [n, k]."""
        x_nchw = torch.relu(self.stem_norm(self.stem(image)))
        logits: Tensor = self.head(self.blocks(x_nchw).mean((2, 3)))
        return logits


def train() -> MobileDigits:
    """Train the net, the same one every time on one kind of machine."""
    split = load_digits_split()
    x_nchw, y_n = torch.from_numpy(split.train_x), torch.from_numpy(split.train_y)
    random = torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = MobileDigits().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=1e-2)
    steps = EPOCHS * -(-len(y_n) // _BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        top, left = torch.randint(-1, 2, (2,), generator=random).tolist()
        moved_nchw = torch.roll(x_nchw, (top, left), (2, 3))
        for batch in torch.randperm(len(y_n), generator=random).split(_BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(moved_nchw[batch]), y_n[batch], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    torch.set_num_threads(threads)
    return net.eval()


def spread(block: InvertedResidual, seed: int) -> None:
    """Let the channels between two layers of a block differ by powers of two; what it computes stays the same.

    A rectified channel times two, read by a weight half as large, is the same channel. Batch norm leaves such layers
    behind when it is folded: that is why mobile nets suffer from int8.

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, sections 3-4
    """
    random = np.random.default_rng(seed)
    scale_c = torch.from_numpy(2.0 ** random.integers(0, _SPREAD + 1, block.expand.out_channels)).float()
    with torch.no_grad():
        block.expand_norm.weight.mul_(scale_c)
        block.expand_norm.bias.mul_(scale_c)
        block.depthwise.weight.div_(scale_c[:, None, None, None])


def write_source(folder: Path) -> Artifact:
    """Train the net, let the channels of one block differ, and write it as an exported program."""
    net = train()
    block = net.blocks[SPREAD_BLOCK]
    assert isinstance(block, InvertedResidual)
    spread(block, seed=SPREAD_BLOCK)
    images = torch.from_numpy(load_digits_split().calibration_x[:2])
    program = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    folder.mkdir(parents=True)
    source = Artifact(folder, ArtifactFormat.EXPORTED_PROGRAM, program_signature(program))
    torch.export.save(program, source.file)
    return source


def search_request(source: Artifact, folder: Path, config: OptimizationConfig) -> SearchRequest:
    """Ask for a search of the net on the digits, with nothing remembered."""
    split = load_digits_split()
    evaluation = Dataset({"image": split.evaluation_x}, labels=split.evaluation_y)
    return SearchRequest(
        source=source,
        evaluation=evaluation,
        evaluation_digest="e" * 64,
        calibration=Dataset({"image": split.calibration_x}),
        calibration_digest="c" * 64,
        config=config,
        out=folder / "out",
        cache=folder / "cache",
    )


def damaged(candidates: Iterable[CandidateResult]) -> tuple[CandidateResult, ...]:
    """The plain int8 candidates that fidelity refused."""
    return tuple(
        one
        for one in candidates
        if one.status is CandidateStatus.REFUSED
        and one.repairs is None
        and any(step.name in PASSES_OF_INT8 for step in one.candidate.recipe)
        and any(outcome.rule == FIDELITY for outcome in one.gate.refusals)
    )


def mended(candidates: Iterable[CandidateResult]) -> tuple[CandidateResult, ...]:
    """The repairs that passed their gates."""
    return tuple(one for one in candidates if one.repairs and one.gate.passed)


def measure(folder: Path, budget_minutes: float = 3.0) -> dict[str, Any]:
    """Search, then measure each repair that passed beside the float graph on its own runtime, in turns.

    Args:
        folder: a new folder of this measurement's own.
        budget_minutes: of the search.

    Returns:
        JSON values: ``points_lost`` by refused candidate, ``repairs`` with the layers in float and ``ratio`` (latency
        over that of the float graph, by batch size, with intervals), ``winner`` and ``float_accuracy``.
    """
    source = write_source(folder / "source")
    passes = ("export_onnx", *(name for name in PASSES_OF_INT8 if name in plugin_names(PASSES)))
    config = OptimizationConfig(
        passes=passes, runtimes=("onnxruntime", "openvino"), budget_minutes=budget_minutes, batch_sizes=(1, 8)
    )
    result = optimize(search_request(source, folder, config), lambda _: None)
    exact = result.baseline.score if result.baseline else None
    assert exact is not None
    return {
        "float_accuracy": exact.estimate,
        "points_lost": {
            one.candidate.label: 100 * (exact.estimate - one.score.estimate)
            for one in damaged(result.candidates)
            if one.score
        },
        "repairs": [
            {
                "label": one.candidate.label,
                "layers": list(excluded_layers(one)),
                "points_lost": 100 * (exact.estimate - one.score.estimate) if one.score else None,
                "ratio": {
                    str(difference.batch_size): difference.ratio.model_dump()
                    for difference in beside_float(one, result, folder)
                },
            }
            for one in mended(result.candidates)
        ],
        "winner": result.chosen.candidate.label if result.chosen else None,
        "sensitivity": result.sensitivity.model_dump(mode="json") if result.sensitivity else None,
    }


def excluded_layers(one: CandidateResult) -> tuple[str, ...]:
    """The layers that a candidate leaves in float."""
    knobs = (step.knobs.get("excluded_layers") for step in one.candidate.recipe)
    return next((layers for layers in knobs if isinstance(layers, tuple)), ())


def beside_float(one: CandidateResult, result: OptimizationResult, folder: Path) -> tuple[SpeedDifference, ...]:
    """Measure a candidate beside the exported float graph on the same runtime, in turns, at each batch size."""
    plain = next(
        other
        for other in result.candidates
        if [step.name for step in other.candidate.recipe] == ["export_onnx"]
        and other.candidate.runtime == one.candidate.runtime
    )
    items = tuple(_item(each, folder / "out") for each in (plain, one))
    inputs: Arrays = {"image": load_digits_split().evaluation_x}
    plan = Plan(batch_sizes=result.config.batch_sizes, threads=1, seconds_cap=20.0)
    run = benchmark(items, inputs, plan, folder / f"beside-{one.candidate.id[:12]}")
    return run.differences[one.candidate.id]


def _item(one: CandidateResult, out: Path) -> BenchItem:
    assert one.artifact is not None
    assert one.signature is not None
    assert one.folder is not None
    return BenchItem(
        id=one.candidate.id,
        folder=out / one.folder / "artifact",
        artifact=one.artifact.format,
        runtime=one.candidate.runtime,
        signature=one.signature,
    )
