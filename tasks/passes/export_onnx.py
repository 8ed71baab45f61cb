"""Export to ONNX with PyTorch's exporter for exported programs, the batch axis kept dynamic."""

from collections.abc import Iterator
from typing import ClassVar

import onnx_ir as ir
import torch
from torch.onnx import OnnxExporterError

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, Signature
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage

_MAX_SINGLE_FILE_BYTES = 2**31 - 2**24
"""Protobuf ends at 2 GiB; beyond it the weights go to a file beside the graph."""


class ExportOnnx(Pass):
    """Leave PyTorch: one ``model.onnx`` whose inputs and outputs have the signature's names and types.

    What the exporter notes about the source code (stack traces, paths) is taken out, so that the same program always
    gives the same bytes.

    Source: https://docs.pytorch.org/docs/2.13/onnx_export.html
    """

    stage: ClassVar[Stage] = Stage.EXPORT
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx``.

        Raises:
            CandidateError: the exporter does not know an operator, or the result has other inputs or outputs.
        """
        program = torch.export.load(artifact.file)
        signature = artifact.signature
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
        produced = Artifact(context.workspace, self.produces, signature)
        exported.save(str(produced.file), external_data=artifact.file.stat().st_size > _MAX_SINGLE_FILE_BYTES)
        return produced


def _check_names(graph: ir.Graph, signature: Signature) -> None:
    for expected, values in ((signature.inputs, graph.inputs), (signature.outputs, graph.outputs)):
        wanted, found = [spec.name for spec in expected], [value.name for value in values]
        if wanted != found:
            raise CandidateError(
                f"the exported graph has {found} where the signature has {wanted}; return each tensor once, and no "
                "input as it came in"
            )


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
