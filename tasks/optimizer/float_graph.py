"""The float ONNX graph of a source, in the form that int8 passes begin with: what their layers are compared with."""

from pathlib import Path

import onnx

from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, PassContext, build_pass
from tasks.optimizer.onnx_preparation import prepare
from tasks.optimizer.sensitivity import TO_FLOAT_GRAPH


def float_graph(source: Artifact, workspace: Path) -> onnx.ModelProto:
    """Return the graph of an ONNX model or of an exported program, folded, fused, with shapes and names.

    Raises:
        CandidateError: the program has no ONNX form.
    """
    if source.format is not ArtifactFormat.ONNX:
        folder = workspace / TO_FLOAT_GRAPH.name
        folder.mkdir()
        source = build_pass(TO_FLOAT_GRAPH).apply(source, PassContext(folder, source, {}))
    prepared = workspace / "prepared.onnx"
    prepare(source.file, prepared)
    return onnx.load(prepared)
