"""Rewrite an ONNX graph ahead of time: constants and batch norms folded, operators fused."""

import logging
from pathlib import Path
from typing import ClassVar, Literal

import onnx
import onnxruntime
import onnxslim
from onnxruntime.capi import onnxruntime_pybind11_state as state

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.onnx_preparation import pool_images

_LEVELS = {
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}
_ERRORS = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented, state.RuntimeException)
_ERRORS_ONLY = 3


class OptimizeGraph(Pass):
    """The same arithmetic in fewer or faster operators, by OnnxSlim, by ONNX Runtime, or by the one after the other.

    ONNX Runtime fuses at load too; what is gained there is the time to load and what OnnxSlim finds beyond it (shapes
    computed from shapes, transposes that cancel out). Level ``extended`` writes ONNX Runtime's own operators. The mean
    over an image becomes a pooling with either.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
    """

    stage: ClassVar[Stage] = Stage.COMPILE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"onnxruntime", "openvino"})

    tool: Literal["onnxslim", "onnxruntime", "both"] = knob(
        "both",
        search=("both", "onnxslim", "onnxruntime"),
        description="Who rewrites; both: OnnxSlim, then ONNX Runtime.",
    )
    level: Literal["basic", "extended"] = knob(
        "basic", search=("basic", "extended"), description="ONNX Runtime's level: standard operators, or also its own."
    )

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx``.

        Raises:
            CandidateError: a tool does not know this graph, or there was nothing to rewrite.
        """
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        before = onnx.load(artifact.file)
        model = before
        if self.tool != "onnxruntime":
            model = _slim(model)
        model = onnx.shape_inference.infer_shapes(model)
        pool_images(model.graph)
        onnx.save(model, produced.file)
        if self.tool != "onnxslim":
            self._optimize(produced.file)
        after = onnx.load(produced.file)
        if _kinds(before) == _kinds(after):
            raise CandidateError(
                f"{self.tool} finds nothing to fold or fuse in this graph of {len(before.graph.node)} nodes"
            )
        return produced

    def _optimize(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = _LEVELS[self.level]
        options.optimized_model_filepath = str(file)
        options.log_severity_level = _ERRORS_ONLY
        try:
            onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        except _ERRORS as error:
            raise CandidateError(f"ONNX Runtime cannot optimize this graph: {error}") from error


def _slim(model: onnx.ModelProto) -> onnx.ModelProto:
    logging.getLogger("onnxslim").setLevel(logging.ERROR)
    try:
        slim = onnxslim.slim(model)
    except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CandidateError(f"OnnxSlim cannot rewrite this graph: {error!r}") from error
    return slim


def _kinds(model: onnx.ModelProto) -> list[str]:
    return sorted(node.op_type for node in model.graph.node)
