"""Open Inference Protocol v2 over gRPC: messages to arrays, and what the engine knows to messages."""

from collections.abc import Iterable
from typing import Any

from registry.errors import InputError
from registry.records.model import TensorSpec
from serving.doors.protocol import open_inference_pb2 as pb
from serving.engine.infer import Answer
from serving.engine.lineage import Lineage
from serving.engine.live import LiveModel
from serving.engine.oip import MAX_ID_LENGTH, pick_outputs, refuse_parameters
from serving.engine.repository import IndexEntry, VersionStatistics
from serving.engine.slices import in_slices
from serving.engine.statistics import Duration
from serving.engine.tensors import SignaturePlan, TensorPlan, check_names, check_rows, from_bytes, to_array, to_bytes
from serving.runtime import Array, Arrays

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where values stand that are not raw; the protocol has no such place for FP16 and BF16."""


def decode_inputs(request: Any, plan: SignaturePlan, *, finite: bool = True) -> Arrays:  # noqa: ANN401  no types here
    """Build the input arrays of a ``ModelInferRequest`` in the signature's order; ``finite`` refuses NaN.

    Raises:
        InputError: the id is too long, or an input is missing, unknown, or does not fit the signature; the message
            names the field.
    """
    if len(request.id) > MAX_ID_LENGTH:
        raise InputError(f"id: expected a string of at most {MAX_ID_LENGTH} characters")
    given: list[Any] = request.inputs[:]  # a list: each look into a field of a message makes new objects
    raw: list[bytes] = request.raw_input_contents[:]
    if raw and len(raw) != len(given):
        raise InputError(f"raw_input_contents: expected one for each of {len(given)} inputs, got {len(raw)}")
    _refuse_parameters(given, "inputs")
    names = [tensor.name for tensor in given]
    check_names(plan, names, "inputs")
    inputs: Arrays = {}
    for tensor in plan.inputs:
        position = names.index(tensor.name)
        where = f"inputs[{position}]"
        inputs[tensor.name] = _decode(tensor, given[position], raw[position] if raw else None, where, finite=finite)
    check_rows(plan, inputs)
    return inputs


def wanted_outputs(request: Any, plan: SignaturePlan) -> tuple[TensorPlan, ...]:  # noqa: ANN401
    """Return the outputs to answer with: those asked for, in that order, or all.

    Raises:
        InputError: an output is unknown or asked for twice.
    """
    if not request.outputs:
        return plan.outputs
    asked = request.outputs[:]
    _refuse_parameters(asked, "outputs")
    return pick_outputs(plan, [tensor.name for tensor in asked])


def parameters(request: Any) -> dict[str, object]:  # noqa: ANN401
    """Return a request's parameters as values by name."""
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None)
        for name, value in request.parameters.items()
    }


def encode_answer(
    answer: Answer, lineage: Lineage, wanted: tuple[TensorPlan, ...], given_id: str
) -> pb.ModelInferResponse:
    """Write an inference answer, its tensors raw."""
    request_id, outputs = answer.request_id, answer.outputs
    arrays = [outputs[tensor.name] for tensor in wanted]
    response = pb.ModelInferResponse(
        model_name=lineage.model,
        model_version=lineage.version,
        id=given_id or request_id,
        raw_output_contents=list(map(to_bytes, wanted, arrays)),
    )
    for tensor, array in zip(wanted, arrays, strict=True):
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=array.shape)
    response.parameters["artifact"].string_param = lineage.artifact
    response.parameters["request_id"].string_param = request_id
    if answer.cached:
        response.parameters["cache_hit"].bool_param = True
    return response


def encode_model(name: str, live: LiveModel, version: int) -> pb.ModelMetadataResponse:
    """Write the metadata of a model, under the name that it was asked for by, as one of its versions has it."""
    served = live.slots[version].served
    return pb.ModelMetadataResponse(
        name=name,
        versions=[str(number) for number in sorted(live.slots)],
        platform=f"burnish_{served.runtime.name}",
        inputs=[_describe(spec) for spec in served.signature.inputs],
        outputs=[_describe(spec) for spec in served.signature.outputs],
    )


async def encode_index(entries: Iterable[IndexEntry]) -> pb.RepositoryIndexResponse:
    """Write the list of versions."""
    response = pb.RepositoryIndexResponse()
    async for some in in_slices(entries):
        for entry in some:
            response.models.add(name=entry.model, version=str(entry.version), state=entry.state, reason=entry.reason)
    return response


async def encode_statistics(all_: Iterable[VersionStatistics]) -> pb.ModelStatisticsResponse:
    """Write counters; the time to read inputs and to write outputs is not told apart and stays 0."""
    response = pb.ModelStatisticsResponse()
    async for some in in_slices(all_):
        response.model_stats.extend(map(_statistics, some))
    return response


def _statistics(one: VersionStatistics) -> pb.ModelStatistics:
    counted = one.statistics
    return pb.ModelStatistics(
        name=one.model,
        version=str(one.version),
        last_inference=counted.last_inference_ms,
        inference_count=counted.inferences,
        execution_count=counted.executions,
        inference_stats=pb.InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.fail),
            queue=_duration(counted.queue),
            compute_infer=_duration(counted.compute),
            cache_hit=_duration(counted.cache_hit),
            cache_miss=_duration(counted.cache_miss),
        ),
        batch_stats=[
            pb.InferBatchStatistics(batch_size=size, compute_infer=_duration(batch))
            for size, batch in sorted(counted.batches.items())
        ],
    )


def _refuse_parameters(tensors: Iterable[Any], where: str) -> None:
    for position, tensor in enumerate(tensors):
        if tensor.parameters:
            refuse_parameters(tensor.parameters, f"{where}[{position}]")


def _decode(plan: TensorPlan, tensor: Any, raw: bytes | None, where: str, *, finite: bool) -> Array:  # noqa: ANN401
    if tensor.datatype != plan.datatype:
        raise InputError(f"{where}.datatype: expected {plan.datatype}, got {tensor.datatype!r:.40}")
    shape = tensor.shape[:]
    if raw is not None:
        if tensor.HasField("contents"):
            raise InputError(f"{where}: has contents beside raw_input_contents; give one of them")
        return from_bytes(plan, shape, memoryview(raw), where, finite=finite)
    if plan.datatype not in _CONTENTS:
        raise InputError(f"{where}: {plan.datatype} comes as raw_input_contents only")
    values = list(getattr(tensor.contents, _CONTENTS[plan.datatype]))
    return to_array(plan, shape, values, where, finite=finite)


def _describe(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name,
        datatype=spec.datatype.value,
        shape=[-1 if size is None else size for size in spec.shape],
    )


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
