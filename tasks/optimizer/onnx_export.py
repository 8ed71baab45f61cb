"""Exported program to ONNX file: the signature's names, nothing of the source code, the same bytes every time."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch.export import ExportedProgram
from torch.onnx import OnnxExporterError

from registry.errors import CandidateError
from registry.records.model import Signature
from tasks.optimizer.onnx_legacy_export import export_by_tracing

Exporter = Literal["auto", "dynamo", "legacy"]

OPSET = 20
"""The newest that both exporters write."""
_MAX_SINGLE_FILE_BYTES = 2**31 - 2**24
"""Protobuf ends at 2 GiB; beyond it the weights go to a file beside the graph."""

_MATRIX = 2
_IN_NUMPY = (torch.float16, torch.float32, torch.float64)

_log = logging.getLogger(__name__)


def write_onnx(
    program: ExportedProgram, signature: Signature, file: Path, *, exporter: Exporter = "auto", opset: int = OPSET
) -> None:
    """Write a program as ONNX with the inputs and outputs of a signature, in its order.

    What the exporter notes about the source code (stack traces, paths) is taken out; which exporter it was stands in
    the file, as the metadata ``exporter``.

    Args:
        program: what is exported.
        signature: names and types of its inputs and outputs.
        file: where the graph goes.
        exporter: ``dynamo`` translates the program, ``legacy`` traces it, ``auto`` traces what cannot be translated.
        opset: version of ONNX's operators.

    Raises:
        CandidateError: the exporter does not know an operator, or the result has other inputs or outputs or does not
            take batches of another size.
    """
    used, model = _export(program, signature, file, exporter, opset)
    _check_names(model.graph, signature)
    _keep_names_apart(model.graph)
    _forget_source_code(model)
    _name_transposed_weights(model.graph, program)
    model.metadata_props["exporter"] = used
    weights = sum(tensor.nbytes for tensor in (*program.state_dict.values(), *program.tensor_constants.values()))
    ir.save(model, file, external_data=f"{file.name}.data" if weights > _MAX_SINGLE_FILE_BYTES else None)


def _export(
    program: ExportedProgram, signature: Signature, file: Path, exporter: Exporter, opset: int
) -> tuple[str, ir.Model]:
    if exporter != "legacy":
        try:
            return "dynamo", _translate(program, signature, opset)
        except (OnnxExporterError, RuntimeError) as error:
            if exporter == "dynamo":
                raise CandidateError(f"the ONNX exporter cannot take this program: {error}") from error
            _log.warning("exported by tracing (dynamo=False), as the ONNX exporter cannot take this program: %s", error)
    return "legacy", export_by_tracing(program, signature, opset, file)


def _translate(program: ExportedProgram, signature: Signature, opset: int) -> ir.Model:
    exported = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        opset_version=opset,
        input_names=[spec.name for spec in signature.inputs],
        output_names=[spec.name for spec in signature.outputs],
    )
    assert exported is not None
    return exported.model


def _check_names(graph: ir.Graph, signature: Signature) -> None:
    for expected, values in ((signature.inputs, graph.inputs), (signature.outputs, graph.outputs)):
        wanted, found = [spec.name for spec in expected], [value.name for value in values]
        if wanted != found:
            raise CandidateError(f"the exported graph has {found} where the signature has {wanted}")


def _keep_names_apart(graph: ir.Graph) -> None:
    """Rename inner values that the exporter happened to call like an input or output."""
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    taken = {value.name for value in (*graph.inputs, *graph.outputs)}
    for value in _values(graph):
        if value.name in taken and id(value) not in ends:
            value.name = f"{value.name}__inner"


def _forget_source_code(model: ir.Model) -> None:
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *_values(model.graph)):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None


def _name_transposed_weights(graph: ir.Graph, program: ExportedProgram) -> None:
    """Give a weight that the exporter transposed its parameter's name again, so that its layer can be found by it."""
    transposed = {
        name: tensor.detach().T.numpy()
        for name, tensor in program.state_dict.items()
        if tensor.dim() == _MATRIX and tensor.dtype in _IN_NUMPY and name not in graph.initializers
    }
    for value in list(graph.initializers.values()):
        stored = value.const_value.numpy() if value.const_value is not None else np.empty(0)
        found = next((name for name, weight in transposed.items() if _same(weight, stored)), None)
        if found is not None:
            module, dot, leaf = found.rpartition(".")
            value.name = f"{module}{dot}transposed_{leaf}"
            del transposed[found]


def _same(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and np.array_equal(one, other)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.initializers.values()
    for node in graph.all_nodes():
        yield from node.outputs
