"""The winner beside the module itself: eager PyTorch in this process, batch 1, one thread, same images, in turns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from burnish.examples.digits import Images
from registry.records.benchmark import Interval
from registry.records.model import ServedVersion
from serving.runtime import Array, Arrays, Session, build_runtime
from tasks.bench.intervals import latency_figures
from tasks.bench.measure import Plan, interleaved

SECONDS = 6.0


class EagerSession(Session):
    """The ``nn.Module`` as its author would call it, without gradients."""

    def __init__(self, module: torch.nn.Module, served: ServedVersion) -> None:
        """Wrap a module in evaluation mode."""
        super().__init__(served.signature, resident_bytes=0)
        self._module = module

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute the one output."""
        tensors = [torch.from_numpy(inputs[spec.name]) for spec in self.signature.inputs]
        with torch.inference_mode():
            return {self.signature.outputs[0].name: self._module(*tensors).numpy()}

    def close(self) -> None:
        """Nothing to give back: the module belongs to the caller."""


@dataclass(frozen=True)
class Speed:
    """Median latency of one call in milliseconds."""

    eager: Interval
    winner: Interval

    @property
    def times_faster(self) -> float:
        """The eager median over the winner's."""
        return self.eager.estimate / self.winner.estimate


def compare_in_process(module: torch.nn.Module, served: ServedVersion, folder: Path, images: Images) -> Speed:
    """Measure the module and the registered artifact in turns, at batch 1 on one thread."""
    threads = torch.get_num_threads()
    winner = build_runtime(served.runtime).load(folder, served.artifact.format, served.signature)
    try:
        torch.set_num_threads(1)
        sessions: dict[str, Session] = {"eager": EagerSession(module, served), "winner": winner}
        inputs: Arrays = {served.signature.inputs[0].name: images}
        series = interleaved(sessions, inputs, Plan(batch_sizes=(1,), seconds_cap=SECONDS), lambda _: None)
        figures = {name: latency_figures(1, series[0].latency_ms[name]).latency_p50_ms for name in sessions}
    finally:
        torch.set_num_threads(threads)
        winner.close()
    return Speed(eager=figures["eager"], winner=figures["winner"])


def answers_of_artifact(served: ServedVersion, folder: Path, images: Images) -> Array:
    """Compute the registered artifact's first output in this process, one image a call."""
    session = build_runtime(served.runtime).load(folder, served.artifact.format, served.signature)
    try:
        name, output = served.signature.inputs[0].name, served.signature.outputs[0].name
        return np.concatenate([session.run({name: images[i : i + 1]})[output] for i in range(len(images))])
    finally:
        session.close()
