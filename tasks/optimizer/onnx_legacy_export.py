"""Exported program to ONNX by tracing: the way for programs that PyTorch's own translation to ONNX does not take."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as state
from torch import fx
from torch.export import ExportedProgram
from torch.onnx import OnnxExporterError

from registry.errors import CandidateError
from registry.records.model import Signature
from serving.runtime import Arrays

aten = torch.ops.aten

_METHODS: dict[Any, str] = {
    aten._unsafe_view.default: "reshape",
    aten.expand.default: "expand",
    aten.repeat.default: "repeat",
    aten.reshape.default: "reshape",
    aten.sym_size.int: "size",
    aten.unflatten.int: "unflatten",
    aten.view.default: "view",
}
"""Operators by the tensor method that does the same: tracing follows a size through a method, not through an operator,
which takes it for a number and so fixes the batch."""
_FUNCTIONS: dict[Any, Any] = {
    aten.arange.default: torch.arange,
    aten.full.default: torch.full,
    aten.ones.default: torch.ones,
    aten.zeros.default: torch.zeros,
}
_TRACED_SIZE, _CHECKED_SIZE = 2, 3
_ERRORS = (OnnxExporterError, RuntimeError, NotImplementedError, TypeError, IndexError)
_RUN_ERRORS = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException)


def export_by_tracing(program: ExportedProgram, signature: Signature, opset: int, file: Path) -> ir.Model:
    """Return a program as an ONNX model with the signature's names, written to a file on the way.

    Tracing can write down a size that it happened to see; so the model is run once on another batch size.

    Source: https://docs.pytorch.org/docs/2.13/onnx.html

    Raises:
        CandidateError: the exporter does not know an operator, or the model takes no other batch size than the traced.
    """
    example = tuple(torch.from_numpy(value) for value in _zeros(signature, _TRACED_SIZE).values())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is the older exporter, and each number that it writes down
            torch.onnx.export(
                _traceable(program),
                example,
                file,
                dynamo=False,
                opset_version=opset,
                input_names=[spec.name for spec in signature.inputs],
                output_names=[spec.name for spec in signature.outputs],
                dynamic_axes={
                    spec.name: {axis: f"{spec.name}_{axis}" for axis, size in enumerate(spec.shape) if size is None}
                    for spec in (*signature.inputs, *signature.outputs)
                },
            )
    except _ERRORS as error:
        raise CandidateError(f"the ONNX exporter that traces cannot take this program: {error}") from error
    _check_sizes(file, signature)
    return ir.from_proto(onnx.load(file))


def _traceable(program: ExportedProgram) -> fx.GraphModule:
    unlifted = program.module(check_guards=False)
    graph = unlifted.graph
    for node in graph.nodes:
        if node.target in _METHODS:
            node.op, node.target = "call_method", _METHODS[node.target]
        elif node.target in _FUNCTIONS:
            node.target = _FUNCTIONS[node.target]
    graph.set_codegen(fx.graph.CodeGen())
    return fx.GraphModule(unlifted, graph).eval()


def _check_sizes(file: Path, signature: Signature) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    inputs = _zeros(signature, _CHECKED_SIZE)
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        outputs = session.run([spec.name for spec in signature.outputs], inputs)
    except _RUN_ERRORS as error:
        raise CandidateError(
            f"the exporter that traces fixed the batch at {_TRACED_SIZE}; with {_CHECKED_SIZE} it fails: {error}"
        ) from error
    for spec, output in zip(signature.outputs, outputs, strict=True):
        wanted = tuple(_CHECKED_SIZE if size is None else size for size in spec.shape)
        if spec.shape[:1] == (None,) and output.shape[:1] != wanted[:1]:
            raise CandidateError(
                f"the exporter that traces fixed the size of {spec.name!r}: {output.shape} where {wanted} is right"
            )


def _zeros(signature: Signature, size: int) -> Arrays:
    return {
        spec.name: np.zeros([size if fixed is None else fixed for fixed in spec.shape], spec.datatype.numpy_name)
        for spec in signature.inputs
    }
