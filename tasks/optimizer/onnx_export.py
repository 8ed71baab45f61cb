"""Exported program to ONNX file: the signature's names, nothing of the source code, the same bytes every time."""

from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import torch
from torch.export import ExportedProgram
from torch.onnx import OnnxExporterError

from registry.errors import CandidateError
from registry.records.model import Signature

_MAX_SINGLE_FILE_BYTES = 2**31 - 2**24
"""Protobuf ends at 2 GiB; beyond it the weights go to a file beside the graph."""


def write_onnx(program: ExportedProgram, signature: Signature, file: Path) -> None:
    """Write a program as ONNX with the inputs and outputs of a signature, in its order.

    What the exporter notes about the source code (stack traces, paths) is taken out.

    Raises:
        CandidateError: the exporter does not know an operator, or the result has other inputs or outputs.
    """
    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=[spec.name for spec in signature.inputs],
            output_names=[spec.name for spec in signature.outputs],
        )
    except (OnnxExporterError, RuntimeError) as error:
        raise CandidateError(f"the ONNX exporter cannot take this program: {error}") from error
    assert exported is not None
    _check_names(exported.model.graph, signature)
    _keep_names_apart(exported.model.graph)
    _forget_source_code(exported.model)
    weights = sum(tensor.nbytes for tensor in (*program.state_dict.values(), *program.tensor_constants.values()))
    exported.save(str(file), external_data=weights > _MAX_SINGLE_FILE_BYTES)


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


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.initializers.values()
    for node in graph.all_nodes():
        yield from node.outputs
