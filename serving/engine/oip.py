"""Open Inference Protocol v2 in JSON: requests to arrays, answers and metadata to bytes.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from typing import Any, NamedTuple

import orjson

from registry.errors import InputError
from registry.records.model import TensorSpec
from serving.engine.infer import Answer
from serving.engine.live import LiveModel
from serving.engine.tensors import SignaturePlan, TensorPlan, check_names, check_rows, to_array
from serving.runtime import Array, Arrays

MAX_ID_LENGTH = 128

_REQUEST_FIELDS = frozenset({"id", "parameters", "inputs", "outputs"})
_INPUT_FIELDS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_OUTPUT_FIELDS = frozenset({"name", "parameters"})


class InferRequest(NamedTuple):
    """A request whose form is right; its tensors are not read yet."""

    id: str | None
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]] | None


def parse_request(body: bytes) -> InferRequest:
    """Read the JSON of an inference request and check its form.

    Raises:
        InputError: it is not JSON, or a field is missing, unknown or of the wrong type.
    """
    try:
        document = orjson.loads(body)
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
    return InferRequest(request_id, inputs, outputs)


def decode_inputs(request: InferRequest, plan: SignaturePlan) -> Arrays:
    """Build the input arrays in the signature's order.

    Raises:
        InputError: an input is missing, unknown, or does not fit the signature; the message names the field.
    """
    names = [tensor["name"] for tensor in request.inputs]
    check_names(plan, names, "inputs")
    inputs: Arrays = {}
    for tensor in plan.inputs:
        position = names.index(tensor.name)
        inputs[tensor.name] = _decode_tensor(tensor, request.inputs[position], f"inputs[{position}]")
    check_rows(plan, inputs)
    return inputs


def wanted_outputs(request: InferRequest, plan: SignaturePlan) -> tuple[TensorPlan, ...]:
    """Return the outputs to answer with: those asked for, in that order, or all.

    Raises:
        InputError: an output is unknown or asked for twice.
    """
    if request.outputs is None:
        return plan.outputs
    known = {tensor.name: tensor for tensor in plan.outputs}
    names = [tensor["name"] for tensor in request.outputs]
    for position, name in enumerate(names):
        if name not in known:
            raise InputError(f"outputs[{position}].name: expected one of {list(known)}, got {name!r:.80}")
        if name in names[:position]:
            raise InputError(f"outputs[{position}].name: {name!r} is asked for twice")
    return tuple(known[name] for name in names)


def encode_answer(answer: Answer, wanted: tuple[TensorPlan, ...], given_id: str | None) -> bytes:
    """Write an inference answer; NaN and infinities, which JSON does not have, come out as null."""
    slot, request_id, outputs = answer
    tensors = []
    for tensor in wanted:
        array = outputs[tensor.name]
        described = {"name": tensor.name, "datatype": tensor.datatype, "shape": array.shape, "data": array.reshape(-1)}
        tensors.append(described)
    document = {
        "model_name": slot.model,
        "model_version": str(slot.served.version),
        "id": given_id or request_id,
        "parameters": {"artifact": slot.served.artifact.sha256, "request_id": request_id},
        "outputs": tensors,
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def encode_model(live: LiveModel, version: int) -> bytes:
    """Write the metadata of a model as one of its versions has it."""
    served = live.slots[version].served
    return orjson.dumps(
        {
            "name": live.entry.model,
            "versions": [str(number) for number in sorted(live.slots)],
            "platform": f"burnish_{served.runtime.name}",
            "inputs": [_describe(spec) for spec in served.signature.inputs],
            "outputs": [_describe(spec) for spec in served.signature.outputs],
            "parameters": {"version": str(version), "artifact": served.artifact.sha256},
        }
    )


def _decode_tensor(plan: TensorPlan, tensor: dict[str, Any], where: str) -> Array:
    datatype = tensor.get("datatype")
    if datatype != plan.datatype:
        raise InputError(f"{where}.datatype: expected {plan.datatype}, got {datatype!r:.40}")
    shape = tensor.get("shape")
    if type(shape) is not list:
        raise InputError(f"{where}.shape: expected a list of sizes")
    if "data" not in tensor:
        raise InputError(f"{where}.data: missing")
    return to_array(plan, shape, tensor["data"], where)


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
    if parameters is not None and type(parameters) is not dict:
        raise InputError(f"{where}.parameters: expected an object")


def _describe(spec: TensorSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "datatype": spec.datatype.value,
        "shape": [-1 if size is None else size for size in spec.shape],
    }
