"""The child process of a training: call the user's function, export what it returns."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from registry.errors import InputError
from registry.records.model import Signature, TensorSpec
from serving.runtime import Arrays
from tasks.optimizer.isolation import answer
from tasks.retraining.trainer import INPUT_PREFIX, LABELS, PROGRAM_FILE, WINDOW_FILE


def work(job: dict[str, Any], workspace: Path) -> dict[str, Any]:
    """Train on the window and write the exported program into the workspace.

    Raises:
        InputError: there is no such function, or what it returns cannot be exported for the model's inputs.
    """
    signature = Signature.model_validate(job["signature"])
    with np.load(workspace / WINDOW_FILE, allow_pickle=False) as archive:
        inputs = {spec.name: archive[f"{INPUT_PREFIX}{spec.name}"] for spec in signature.inputs}
        labels = archive[LABELS]
    module = _function(job["function"])(inputs, labels, job["seed"])
    if not isinstance(module, nn.Module):
        raise InputError(f"it returned a {type(module).__name__}; it must return an nn.Module")
    torch.export.save(_export(module.eval(), signature, inputs), workspace / PROGRAM_FILE)
    return {}


def _function(name: str) -> Any:  # noqa: ANN401 - whatever the user wrote
    module_name, _, attribute = name.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; install the module where Burnish runs") from error
    if not hasattr(module, attribute):
        raise InputError(f"the module {module_name} has no {attribute!r}")
    return getattr(module, attribute)


def _export(module: nn.Module, signature: Signature, window: Arrays) -> torch.export.ExportedProgram:
    """Export with the window's first samples as the example; sizes that vary in the signature may vary again."""
    specs = {spec.name: spec for spec in signature.inputs}
    names = list(inspect.signature(module.forward).parameters)[: len(specs)]
    if set(names) != set(specs):
        raise InputError(
            f"the network's forward takes ({', '.join(names)}), the model's inputs are ({', '.join(specs)}); name "
            f"forward's parameters so"
        )
    example = tuple(torch.from_numpy(_example(window[name], specs[name])) for name in names)
    batch = torch.export.Dim("batch")
    shapes = {name: _axes(specs[name], batch) for name in names}
    return torch.export.export(module, example, dynamic_shapes=shapes)


def _example(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """The fixed number of samples, or two: torch.export takes a size of one for a constant."""
    return np.ascontiguousarray(np.resize(array, (spec.shape[0] or 2, *array.shape[1:])))


def _axes(spec: TensorSpec, batch: Any) -> dict[int, Any]:  # noqa: ANN401 - torch's Dim is made by a metaclass
    varying = [axis for axis, size in enumerate(spec.shape) if size is None]
    return {axis: torch.export.Dim.AUTO if axis else batch for axis in varying}


if __name__ == "__main__":
    answer(work)
