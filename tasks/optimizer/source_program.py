"""Exported programs: load a checked copy, save it again, read out the signature. Runs in the source child only."""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, TensorArgument
from torch.utils._pytree import tree_leaves

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec


def resave(file: Path, target: Path) -> Signature:
    """Load an exported program, run it on its example inputs and write it anew.

    Raises:
        InputError: it takes or returns something other than tensors, or its answers change from run to run.
    """
    program = _load(file)
    signature = program_signature(program)
    _check_repeatable(program)
    torch.export.save(program, target)
    return signature


def _load(file: Path) -> ExportedProgram:
    try:
        return torch.export.load(file)
    except pickle.UnpicklingError as error:
        raise InputError(
            "its example inputs hold more than tensors, and unpickling those would run code; export it "
            "with tensors only"
        ) from error


def program_signature(program: ExportedProgram) -> Signature:
    """Return the signature of an exported program: inputs by their names, outputs by key or as ``output_0`` and on.

    Raises:
        InputError: it takes or returns something other than tensors.
    """
    graph = program.graph_signature
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op != "output"}
    inputs = tuple(
        _spec(spec.arg.name, values.get(spec.arg.name), spec.arg, "takes")
        for spec in graph.input_specs
        if spec.kind is InputKind.USER_INPUT
    )
    results = [spec.arg for spec in graph.output_specs]
    outputs = tuple(
        _spec(name, values.get(argument.name), argument, "returns")
        for name, argument in zip(_output_names(program, len(results)), results, strict=True)
    )
    if not inputs or not outputs:
        raise InputError("the program takes or returns no tensor; a model needs at least one input and one output")
    return Signature(inputs=inputs, outputs=outputs)


def _output_names(program: ExportedProgram, count: int) -> list[str]:
    """Keys of a flat dictionary of results, otherwise their positions."""
    tree = program.call_spec.out_spec
    if tree is not None and tree.type is dict and tree.num_leaves == tree.num_children == count:
        return [str(key) for key in json.loads(json.dumps(tree.context))]
    return [f"output_{position}" for position in range(count)]


def _spec(name: str, value: Any, argument: object, verb: str) -> TensorSpec:  # noqa: ANN401  a node's meta value
    if not isinstance(argument, TensorArgument) or not isinstance(value, torch.Tensor):
        raise InputError(f"the program {verb} {name!r}, which is not a tensor; export it with tensors only")
    try:
        datatype = Datatype.from_numpy_name(str(value.dtype).removeprefix("torch."))
    except ValueError:
        raise InputError(
            f"the program {verb} {name!r} as {value.dtype}, which the optimizer cannot compare; cast it inside the "
            "module (float32, say)"
        ) from None
    return TensorSpec(name=name, datatype=datatype, shape=tuple(_size(size) for size in value.shape))


def _size(size: int | torch.SymInt) -> int | None:
    return size if isinstance(size, int) else None


def _check_repeatable(program: ExportedProgram) -> None:
    """Run twice on the example inputs: a program in training mode drops units at random or moves its statistics."""
    if program.example_inputs is None:
        raise InputError("the program holds no example inputs; save it with torch.export.save as exported")
    arguments, named = program.example_inputs
    module = program.module(check_guards=False)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        first, second = (tree_leaves(module(*arguments, **named)) for _ in range(2))
    changed = [name for name, tensor in module.state_dict().items() if not torch.equal(tensor, state[name])]
    if changed:
        raise InputError(
            f"the program writes into {changed[0]!r} when it runs, so its answers depend on earlier ones; call "
            "module.eval() before torch.export.export, and keep no state that changes"
        )
    if not all(_same(one, two) for one, two in zip(first, second, strict=True)):
        raise InputError(
            "the program gives other answers for the same inputs from run to run; call module.eval() before "
            "torch.export.export"
        )


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    return torch.allclose(one, two, equal_nan=True) if one.is_floating_point() else torch.equal(one, two)
