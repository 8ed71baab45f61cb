"""``burnish.push``: exports an ``nn.Module`` in the caller's own process and sends it with its sets."""

import inspect
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from burnish.client import Client
from burnish.datasets import write_dataset
from burnish.errors import InputError
from burnish.replies import Optimization


def push(  # noqa: PLR0913 - the one call that takes a model all the way, each part by name
    module: torch.nn.Module,
    name: str,
    *,
    example_inputs: Any,  # noqa: ANN401
    evaluation: Any,  # noqa: ANN401
    calibration: Any = None,  # noqa: ANN401
    config: Mapping[str, Any] | None = None,
    wait: bool = True,
    on_update: Callable[[Optimization], None] | None = None,
    client: Client | None = None,
) -> Optimization:
    """Export a module and have it optimized, gated, registered and released as a model.

    Args:
        module: the model; it is exported in eval mode and left as it was.
        name: the model's name in the registry.
        example_inputs: a tensor or array, a tuple of them in the order of ``forward``'s parameters, or a dict by
            their names.
        evaluation: a path (.npz or .parquet), a dict of arrays by input name (and ``label``), a pair (inputs, labels),
            or one array where there are no labels.
        calibration: inputs that passes may look at, in the same forms; never labels.
        config: fields of the optimization's configuration, such as ``{"policy": "min_size"}``.
        wait: return when the optimization has finished; otherwise at once.
        on_update: called with every change while waiting.
        client: the stack; by default the one that the environment names.

    Returns:
        The optimization. A refused gate is a value: see ``refused`` and ``refusals``.

    Raises:
        InputError: the module cannot be exported, or a set does not fit it.
        RemoteError: the stack failed.
    """
    bound = _bind(module, example_inputs)
    with tempfile.TemporaryDirectory(prefix="burnish-push-") as scratch:
        folder = Path(scratch)
        sets = {
            kind: write_dataset(data, tuple(bound.arguments), kind, folder)
            for kind, data in (("evaluation", evaluation), ("calibration", calibration))
            if data is not None
        }
        if "evaluation" not in sets:
            raise InputError("evaluation: an evaluation set is needed; without one nothing can be said to be right")
        path = folder / "model.pt2"
        torch.export.save(_export(module, bound), path)
        with nullcontext(client) if client else Client() as stack:
            started = stack.push_files(path, name, sets["evaluation"], sets.get("calibration"), config)
            return stack.wait(started.id, on_update) if wait else started


def export_module(module: torch.nn.Module, example_inputs: Any) -> ExportedProgram:  # noqa: ANN401
    """Export a module with a batch that may vary; if it fixes the batch, with the example's, and warn.

    Args:
        module: exported in eval mode and left as it was.
        example_inputs: a tensor or array, a tuple of them in the order of ``forward``'s parameters, or a dict by
            their names.

    Raises:
        InputError: the module cannot be exported.
    """
    return _export(module, _bind(module, example_inputs))


def _export(module: torch.nn.Module, bound: inspect.BoundArguments) -> ExportedProgram:
    with _eval_mode(module):
        dynamic_shapes = _batch_axes(bound)
        if dynamic_shapes is not None:
            # torch.export takes sizes 0 and 1 for constants, so an example of one sample is doubled.
            args = tuple(torch.cat([tensor, tensor]) for tensor in bound.args)
            kwargs = {name: torch.cat([tensor, tensor]) for name, tensor in bound.kwargs.items()}
            try:
                return torch.export.export(module, args, kwargs, dynamic_shapes=dynamic_shapes)
            except (RuntimeError, ValueError) as error:
                size = len(next(iter(bound.arguments.values())))
                warnings.warn(
                    f"{type(module).__name__} cannot be exported with a batch that varies, so it will take batches of "
                    f"exactly {size}: {_first_line(error)}",
                    stacklevel=4,
                )
        try:
            return torch.export.export(module, bound.args, bound.kwargs)
        except (RuntimeError, ValueError, TypeError) as error:
            message = f"torch.export cannot export {type(module).__name__}: {_first_line(error)}"
            raise InputError(f"{message}; see https://docs.pytorch.org/docs/stable/export.html") from error


def _batch_axes(bound: inspect.BoundArguments) -> dict[str, dict[int, Any]] | None:
    """Axis 0 of every input as one varying size; None if the inputs do not share an axis 0."""
    tensors = bound.arguments.values()
    if any(tensor.ndim == 0 for tensor in tensors) or len({len(tensor) for tensor in tensors}) != 1:
        return None
    batch = Dim("batch")
    return {name: {0: batch} for name in bound.arguments}


def _bind(module: torch.nn.Module, example_inputs: Any) -> inspect.BoundArguments:  # noqa: ANN401
    """Name every example input by the parameter of ``forward`` that takes it: so the model's inputs are named."""
    if isinstance(example_inputs, torch.Tensor | np.ndarray):
        example_inputs = (example_inputs,)
    signature = inspect.signature(module.forward)
    try:
        if isinstance(example_inputs, Mapping):
            bound = signature.bind(**example_inputs)
        else:
            bound = signature.bind(*example_inputs)
    except TypeError as error:
        raise InputError(f"example_inputs do not fit forward{signature}: {error}") from error
    for name, value in bound.arguments.items():
        if not isinstance(value, torch.Tensor | np.ndarray):
            kind = type(value).__name__
            raise InputError(f"example_inputs: {name} is a {kind}; every input must be a tensor or an array")
        bound.arguments[name] = torch.as_tensor(value)
    if not bound.arguments:
        raise InputError("example_inputs is empty; a model needs at least one input")
    return bound


@contextmanager
def _eval_mode(module: torch.nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
