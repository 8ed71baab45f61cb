"""Real nets and the candidates made of them, which the rules and the benchmark are tried on."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.nets.catalog import NETS
from burnish.examples.digits import train_digits
from burnish.export import export_module
from registry.digest import json_digest
from registry.errors import CandidateError, PluginUnavailable
from registry.records.model import PluginConfig
from registry.records.optimization import Candidate
from serving.runtime import Array, Arrays, Session, build_runtime
from tasks.optimizer.base import Artifact, PassContext, build_pass
from tasks.optimizer.source import take_in


@dataclass(frozen=True)
class Made:
    """A candidate as it was built."""

    name: str
    candidate: Candidate
    artifact: Artifact

    def load(self) -> Session:
        """Open it in its runtime."""
        runtime = build_runtime(self.candidate.runtime)
        return runtime.load(self.artifact.folder, self.artifact.format, self.artifact.signature)


@dataclass(frozen=True)
class Subject:
    """A net with its evaluation set."""

    source: Artifact
    inputs: Arrays
    labels: Array | None
    calibration: Arrays
    folder: Path
    _made: dict[str, Artifact] = field(default_factory=dict)

    def make(self, recipe: tuple[str, ...], runtime: str, **knobs: str) -> Made | None:
        """Apply passes with their default knobs; None where the CPU or a library cannot."""
        artifact, config = self.source, PluginConfig(name=runtime, knobs=knobs)
        steps = tuple(PluginConfig(name=name) for name in recipe)
        try:
            for done, step in enumerate(steps, start=1):
                artifact = self._applied(step, artifact, "+".join(recipe[:done]))
            candidate = Candidate(id=json_digest([*recipe, config.model_dump()]), recipe=steps, runtime=config)
            made = Made(candidate.label, candidate, artifact)
            made.load().close()
        except (CandidateError, PluginUnavailable):
            return None
        return made

    def _applied(self, step: PluginConfig, artifact: Artifact, name: str) -> Artifact:
        if name not in self._made:
            folder = self.folder / name
            folder.mkdir()
            context = PassContext(folder, self.source, self.calibration, deadline=time.time() + 300)
            self._made[name] = build_pass(step).apply(artifact, context)
        return self._made[name]


def digits(folder: Path, epochs: int | None) -> Subject:
    """The residual CNN on digits, trained."""
    return _subject("digits_cnn", train_digits() if epochs is None else train_digits(epochs=epochs), folder)


def encoder(folder: Path) -> Subject:
    """The transformer encoder on token ids, with random weights: enough to see whether samples see one another."""
    torch.manual_seed(0)
    return _subject("encoder", NETS["encoder"].build().eval(), folder)


def _subject(name: str, module: torch.nn.Module, folder: Path) -> Subject:
    net, root = NETS[name], folder / name
    root.mkdir(parents=True)
    samples = net.samples()
    torch.export.save(export_module(module, samples.evaluation[:1]), root / "model.pt2")
    return Subject(
        source=take_in(root / "model.pt2", root / "intake"),
        inputs={net.input_name: samples.evaluation},
        labels=samples.labels,
        calibration={net.input_name: samples.calibration},
        folder=root,
    )
