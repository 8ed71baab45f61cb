"""Store an ONNX model's float32 weights as float16, which halves the file; the arithmetic stays float32."""

from typing import ClassVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pydantic import Field

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage

_LARGEST = float(np.finfo(np.float16).max)


class StoreFloat16(Pass):
    """Every large weight becomes a float16 one behind a Cast to float32.

    Source: https://onnx.ai/onnx/operators/onnx__Cast.html
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX

    least_values: int = knob(32, search=(32, 256), description="Weights of fewer values stay as they are.")
    excluded_layers: tuple[str, ...] = Field(default=(), description="Layers whose weights stay: names of nodes.")

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx``.

        Raises:
            CandidateError: there is no weight to store, or an excluded layer is not in the graph.
        """
        model = onnx.load(str(artifact.file))
        kept = _weights_of(model.graph, self.excluded_layers)
        casts = []
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype != np.float32 or values.size < self.least_values or tensor.name in kept:
                continue
            name, half = tensor.name, f"{tensor.name}.float16"
            tensor.CopyFrom(numpy_helper.from_array(values.clip(-_LARGEST, _LARGEST).astype(np.float16), half))
            casts.append(helper.make_node("Cast", [half], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
        if not casts:
            raise CandidateError(f"no float32 weight has {self.least_values} values or more, so nothing would change")
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        onnx.save(model, str(produced.file))
        return produced


def _weights_of(graph: onnx.GraphProto, layers: tuple[str, ...]) -> set[str]:
    inputs = {node.name: set(node.input) for node in graph.node}
    unknown = [layer for layer in layers if layer not in inputs]
    if unknown:
        raise CandidateError(f"the excluded layer {unknown[0]!r} is not in the graph; give a node's name")
    return {name for layer in layers for name in inputs[layer]}
