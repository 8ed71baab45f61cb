"""ONNX Runtime with its TensorRT provider, on an NVIDIA GPU; never executed by this project, which has none."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state
from pydantic import Field

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat, Signature, TensorSpec
from serving.memory import allocated_bytes
from serving.runtime import Array, Arrays, Runtime, Session, bytes_added

PROVIDER = "TensorrtExecutionProvider"
_ELSEWHERE = "CUDAExecutionProvider"
_NO_PROVIDER = (
    "this ONNX Runtime has no TensorRT provider; on a machine with an NVIDIA GPU and TensorRT, run: "
    "pip uninstall onnxruntime, then pip install 'burnish[nvidia]'"
)
_LOAD_ERRORS = (
    state.EPFail,
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoModel,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
)


class TensorRt(Runtime):
    """One engine a session, built when it is loaded; operators that TensorRT lacks run on the GPU by CUDA.

    An int8 graph (QuantizeLinear and DequantizeLinear, symmetric) is computed in int8; there is no knob for that,
    because without such nodes int8 would need a calibration table. Nothing is cached: artifacts are read-only, and an
    engine holds for one GPU and one version of TensorRT. Written against ONNX Runtime's published source; no machine of
    this project could run it.

    Source: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
    """

    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.ONNX})

    precision: Literal["fp32", "fp16"] = knob("fp32", search=("fp32", "fp16"), description="Type of float computation.")
    workspace_mib: int = Field(default=1024, ge=1, description="GPU memory that building an engine may use.")
    largest_batch: int = Field(default=32, ge=1, description="The engine is built for batches up to this size.")

    @classmethod
    def unavailable(cls) -> str | None:
        """An NVIDIA GPU, TensorRT, and the build of ONNX Runtime with its provider."""
        return None if PROVIDER in onnxruntime.get_available_providers() else _NO_PROVIDER

    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Build the engines of ``model.onnx``, which can take minutes.

        Raises:
            CandidateError: the file cannot be loaded, lacks the signature, or TensorRT did not take it.
        """
        self.check_datatypes(signature)
        file = folder / artifact_format.main_file
        before = allocated_bytes()
        try:
            providers = [(PROVIDER, self._options(signature, int8=_is_quantized(file))), _ELSEWHERE]
            session = onnxruntime.InferenceSession(str(file), providers=providers)
        except (*_LOAD_ERRORS, OSError, ValueError) as error:
            raise CandidateError(f"ONNX Runtime's TensorRT provider cannot load {file}: {error}") from error
        session.disable_fallback()
        if session.get_providers()[0] != PROVIDER:
            raise CandidateError(f"TensorRT did not take {file}; ONNX Runtime fell back to {session.get_providers()}")
        missing = {spec.name for spec in signature.outputs} - {output.name for output in session.get_outputs()}
        if missing:
            raise CandidateError(f"{file} has no output {', '.join(sorted(missing))}")
        return TensorRtSession(session, signature, bytes_added(before, folder))

    def _options(self, signature: Signature, *, int8: bool) -> dict[str, Any]:
        options: dict[str, Any] = {
            "device_id": 0,
            "trt_max_workspace_size": self.workspace_mib * 2**20,
            "trt_fp16_enable": self.precision == "fp16",
            "trt_int8_enable": int8,
            "trt_engine_cache_enable": False,
        }
        if any(None in spec.shape for spec in signature.inputs):
            for name, batch in (("min", 1), ("opt", min(8, self.largest_batch)), ("max", self.largest_batch)):
                options[f"trt_profile_{name}_shapes"] = ",".join(_profile(spec, batch) for spec in signature.inputs)
        return options


class TensorRtSession(Session):
    """An ``InferenceSession`` on the GPU; its outputs come back to the host."""

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature, resident_bytes: int) -> None:
        """Wrap a loaded session."""
        super().__init__(signature, resident_bytes)
        self._session = session
        self._outputs = [spec.name for spec in signature.outputs]

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))

    def close(self) -> None:
        """Free the session and its engines."""
        del self._session


def _is_quantized(file: Path) -> bool:
    graph = onnx.load(str(file), load_external_data=False).graph
    return any(node.op_type == "QuantizeLinear" for node in graph.node)


def _profile(spec: TensorSpec, batch: int) -> str:
    """``input:8x3x224x224``; every varying size is taken as the batch's."""
    return f"{spec.name}:{'x'.join(str(batch if size is None else size) for size in spec.shape)}"
