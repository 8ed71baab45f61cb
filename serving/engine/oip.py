"""Open Inference Protocol v2 over REST: requests to arrays, answers and metadata to bytes.

Tensors are JSON, or bytes behind the JSON where the binary tensor extension is used.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md;
https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from registry.errors import InputError
from registry.records.model import TensorSpec
from serving.engine.infer import Answer
from serving.engine.lineage import Lineage
from serving.engine.live import LiveModel
from serving.engine.raw_request import decode_raw
from serving.engine.tensors import (
    SignaturePlan,
    TensorPlan,
    WantedOutput,
    check_names,
    check_rows,
    from_bytes,
    to_array,
    to_bytes,
    to_values,
)
from serving.runtime import Array, Arrays

MAX_ID_LENGTH = 128

_REQUEST_FIELDS = frozenset({"id", "parameters", "inputs", "outputs", "model_name"})
"""``model_name`` stands in requests of Triton's own documentation, and says nothing: the path names the model."""
_INPUT_FIELDS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT_FIELDS = frozenset({"name", "parameters"})
_PARAMETER_TYPES = frozenset({bool, int, float, str})

NOT_OFFERED = frozenset({"classification", "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"})
"""Parameters of tensors whose meaning an answer would miss if they were ignored, as unknown ones are."""


class InferRequest(NamedTuple):
    """A request whose form is right; its tensors are not read yet."""

    id: str | None
    inputs: list[dict[str, Any]]
    """None of them in a raw binary request, which says nothing of its only one."""
    outputs: list[dict[str, Any]] | None
    parameters: dict[str, Any]
    binary: dict[int, memoryview]
    """The bytes of the inputs that stand behind the JSON, by position."""


class EncodedAnswer(NamedTuple):
    """The body of an answer; ``json_length`` is None where the JSON is all of it."""

    body: bytes
    json_length: int | None


def parse_request(body: bytes, json_length: int | None = None) -> InferRequest:
    """Read an inference request and check its form.

    Args:
        body: JSON, and behind it the bytes of binary tensors.
        json_length: bytes of the JSON; None if it is the whole body, 0 if there is none.

    Raises:
        InputError: it is not JSON, or a field is missing, unknown or of the wrong type.
    """
    if json_length is not None and not 0 < json_length <= len(body):
        if json_length == 0:
            return InferRequest(None, [], None, {"binary_data_output": True}, {0: memoryview(body)})
        raise InputError(f"the header inference-header-content-length: expected 0 to {len(body)}, the size of the body")
    try:
        document = orjson.loads(body if json_length is None else memoryview(body)[:json_length])
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON: {error}") from error
    _check_object(document, _REQUEST_FIELDS, "the body")
    request_id = document.get("id")
    if request_id is not None and not (type(request_id) is str and 0 < len(request_id) <= MAX_ID_LENGTH):
        raise InputError(f"id: expected a string of 1 to {MAX_ID_LENGTH} characters")
    inputs = document.get("inputs")
    _check_tensors(inputs, _INPUT_FIELDS, "inputs")
    outputs = document.get("outputs")
    if outputs is not None:
        _check_tensors(outputs, _OUTPUT_FIELDS, "outputs")
    binary = {} if json_length is None else _slices(inputs, memoryview(body)[json_length:])
    return InferRequest(request_id, inputs, outputs, document.get("parameters") or {}, binary)


def decode_inputs(request: InferRequest, plan: SignaturePlan, *, finite: bool = True) -> Arrays:
    """Build the input arrays in the signature's order.

    Args:
        request: whose form is right.
        plan: of the signature.
        finite: refuse NaN and infinities; JSON has none of them anyway.

    Raises:
        InputError: an input is missing, unknown, or does not fit the signature; the message names the field.
    """
    names = [tensor["name"] for tensor in request.inputs]
    if names != plan.input_names:  # most are as they shall be, and cost no further look
        if not names:
            return decode_raw(request.binary[0], plan, finite=finite)
        check_names(plan, names, "inputs")
    inputs: Arrays = {}
    for tensor in plan.inputs:
        position = names.index(tensor.name)
        given, where = request.inputs[position], f"inputs[{position}]"
        inputs[tensor.name] = _decode_tensor(tensor, given, request.binary.get(position), where, finite=finite)
    check_rows(plan, inputs)
    return inputs


def wanted_outputs(request: InferRequest, plan: SignaturePlan) -> tuple[WantedOutput, ...]:
    """Return the outputs to answer with: those asked for, in that order, or all; each as JSON unless asked otherwise.

    Raises:
        InputError: an output is unknown or asked for twice.
    """
    if request.outputs is None and not request.parameters:
        return plan.all_as_json
    all_binary = _flag(request.parameters, "binary_data_output", default=False)
    if request.outputs is None:
        return tuple(WantedOutput(tensor, all_binary) for tensor in plan.outputs)
    picked = pick_outputs(plan, [tensor["name"] for tensor in request.outputs])
    return tuple(
        WantedOutput(
            tensor,
            _flag(asked.get("parameters") or {}, "binary_data", default=all_binary, where=f"outputs[{position}]."),
        )
        for position, (tensor, asked) in enumerate(zip(picked, request.outputs, strict=True))
    )


def pick_outputs(plan: SignaturePlan, names: list[str]) -> tuple[TensorPlan, ...]:
    """Return the outputs that are asked for, in that order.

    Raises:
        InputError: one is unknown or asked for twice.
    """
    known = {tensor.name: tensor for tensor in plan.outputs}
    for position, name in enumerate(names):
        if name not in known:
            raise InputError(f"outputs[{position}].name: expected one of {list(known)}, got {name!r:.80}")
        if name in names[:position]:
            raise InputError(f"outputs[{position}].name: {name!r} is asked for twice")
    return tuple(known[name] for name in names)


def encode_answer(
    answer: Answer, lineage: Lineage, wanted: tuple[WantedOutput, ...], given_id: str | None
) -> EncodedAnswer:
    """Write an inference answer; in JSON, NaN and infinities, which it does not have, come out as null.

    Raises:
        InputError: an output of BYTES that is not text is asked for in JSON.
    """
    request_id, outputs = answer.request_id, answer.outputs
    tensors, behind = [], []
    for tensor, binary in wanted:
        array = outputs[tensor.name]
        described: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": array.shape}
        if binary:
            data = to_bytes(tensor, array)
            described["parameters"] = {"binary_data_size": len(data)}
            behind.append(data)
        else:
            described["data"] = to_values(tensor, array)
        tensors.append(described)
    document: dict[str, Any] = {
        "model_name": lineage.model,
        "model_version": lineage.version,
        "id": given_id or request_id,
        "parameters": {"artifact": lineage.artifact, "request_id": request_id},
        "outputs": tensors,
    }
    if answer.cached:
        document["parameters"]["cache_hit"] = True
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return EncodedAnswer(b"".join((head, *behind)), len(head)) if behind else EncodedAnswer(head, None)


def encode_model(name: str, live: LiveModel, version: int) -> bytes:
    """Write the metadata of a model, under the name that it was asked for by, as one of its versions has it."""
    served = live.slots[version].served
    return orjson.dumps(
        {
            "name": name,
            "versions": [str(number) for number in sorted(live.slots)],
            "platform": f"burnish_{served.runtime.name}",
            "inputs": [_describe(spec) for spec in served.signature.inputs],
            "outputs": [_describe(spec) for spec in served.signature.outputs],
            "parameters": {"version": str(version), "artifact": served.artifact.sha256},
        }
    )


def _slices(inputs: list[dict[str, Any]], behind: memoryview) -> dict[int, memoryview]:
    """Return the bytes of each binary input, by position; together they are all that stands behind the JSON."""
    found, start = {}, 0
    for position, tensor in enumerate(inputs):
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            continue
        left = len(behind) - start
        if type(size) is not int or not 0 <= size <= left:
            where = f"inputs[{position}].parameters.binary_data_size"
            raise InputError(f"{where}: expected at most the {left} bytes left behind the JSON, got {size!r:.40}")
        found[position] = behind[start : start + size]
        start += size
    if start != len(behind):
        raise InputError(f"inputs: {len(behind) - start} bytes behind the JSON belong to no input's binary_data_size")
    return found


def _flag(parameters: dict[str, Any], name: str, *, default: bool, where: str = "") -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise InputError(f"{where}parameters.{name}: expected true or false, got {value!r:.40}")
    return value


def _decode_tensor(
    plan: TensorPlan, tensor: dict[str, Any], binary: memoryview | None, where: str, *, finite: bool
) -> Array:
    datatype = tensor.get("datatype")
    if datatype != plan.datatype:
        raise InputError(f"{where}.datatype: expected {plan.datatype}, got {datatype!r:.40}")
    shape = tensor.get("shape")
    if type(shape) is not list:
        raise InputError(f"{where}.shape: expected a list of sizes")
    if binary is not None:
        if "data" in tensor:
            raise InputError(f"{where}: has data beside binary_data_size; give one of them")
        return from_bytes(plan, shape, binary, where, finite=finite)
    if "data" not in tensor:
        raise InputError(f"{where}.data: missing")
    return to_array(plan, shape, tensor["data"], where, finite=False)  # JSON has no others


def _check_tensors(tensors: object, fields: frozenset[str], where: str) -> None:
    if type(tensors) is not list or not tensors:
        raise InputError(f"{where}: expected a list of at least one tensor")
    for position, tensor in enumerate(tensors):
        _check_object(tensor, fields, f"{where}[{position}]")
        if type(tensor.get("name")) is not str:
            raise InputError(f"{where}[{position}].name: expected a string")


def _check_object(value: object, fields: frozenset[str], where: str) -> None:
    if type(value) is not dict:
        raise InputError(f"{where}: expected an object")
    if not fields.issuperset(value):
        raise InputError(f"{where}: unknown field {min(value.keys() - fields)!r:.80}; known: {sorted(fields)}")
    parameters = value.get("parameters")
    if parameters:
        _check_parameters(parameters, where)
    elif parameters is not None and type(parameters) is not dict:
        raise InputError(f"{where}.parameters: expected an object")


def _check_parameters(parameters: object, where: str) -> None:
    if type(parameters) is not dict:
        raise InputError(f"{where}.parameters: expected an object")
    for name, value in parameters.items():
        if type(value) not in _PARAMETER_TYPES:
            raise InputError(f"{where}.parameters.{name:.80}: expected a string, a number, true or false")
    refuse_parameters(parameters, where)


def refuse_parameters(parameters: Iterable[str], where: str) -> None:
    """Refuse what this server does not offer; other unknown parameters are ignored, as the protocol has it.

    Raises:
        InputError: one is among those.
    """
    asked = NOT_OFFERED.intersection(parameters)
    if asked:
        raise InputError(f"{where}.parameters.{min(asked)}: not offered here; tensors come and go whole, in the body")


def _describe(spec: TensorSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "datatype": spec.datatype.value,
        "shape": [-1 if size is None else size for size in spec.shape],
    }
