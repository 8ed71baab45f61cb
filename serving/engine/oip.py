"""Open Inference Protocol v2 in JSON: requests to arrays, answers and metadata to bytes.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from registry.errors import InputError
from registry.records.model import Signature, TensorSpec
from serving.engine.infer import Answer
from serving.engine.live import LiveModel
from serving.engine.tensors import check_names, check_rows, to_array
from serving.runtime import Arrays

MAX_ID_LENGTH = 128

_REQUEST_FIELDS = {"id", "parameters", "inputs", "outputs"}
_INPUT_FIELDS = {"name", "shape", "datatype", "parameters", "data"}
_OUTPUT_FIELDS = {"name", "parameters"}


@dataclass(frozen=True)
class InferRequest:
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


def decode_inputs(request: InferRequest, signature: Signature) -> Arrays:
    """Build the input arrays in the signature's order.

    Raises:
        InputError: an input is missing, unknown, or does not fit the signature; the message names the field.
    """
    names = [tensor["name"] for tensor in request.inputs]
    check_names(signature, names, "inputs")
    inputs = {}
    for spec in signature.inputs:
        position = names.index(spec.name)
        inputs[spec.name] = _decode_tensor(spec, request.inputs[position], f"inputs[{position}]")
    check_rows(signature, inputs)
    return inputs


def wanted_outputs(request: InferRequest, signature: Signature) -> tuple[TensorSpec, ...]:
    """Return the outputs to answer with: those asked for, in that order, or all.

    Raises:
        InputError: an output is unknown or asked for twice.
    """
    if request.outputs is None:
        return signature.outputs
    specs = {spec.name: spec for spec in signature.outputs}
    names = [tensor["name"] for tensor in request.outputs]
    for position, name in enumerate(names):
        if name not in specs:
            raise InputError(f"outputs[{position}].name: expected one of {list(specs)}, got {name!r:.80}")
        if name in names[:position]:
            raise InputError(f"outputs[{position}].name: {name!r} is asked for twice")
    return tuple(specs[name] for name in names)


def encode_answer(answer: Answer, wanted: tuple[TensorSpec, ...], request_id: str | None) -> bytes:
    """Write an inference answer; NaN and infinities, which JSON does not have, come out as null."""
    return orjson.dumps(
        {
            "model_name": answer.model,
            "model_version": str(answer.version),
            "id": request_id or answer.request_id,
            "parameters": {"artifact": answer.artifact, "request_id": answer.request_id},
            "outputs": [
                {
                    "name": spec.name,
                    "datatype": spec.datatype.value,
                    "shape": answer.outputs[spec.name].shape,
                    "data": answer.outputs[spec.name].reshape(-1),
                }
                for spec in wanted
            ],
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


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


def _decode_tensor(spec: TensorSpec, tensor: dict[str, Any], where: str) -> Any:  # noqa: ANN401
    datatype = tensor.get("datatype")
    if datatype != spec.datatype.value:
        raise InputError(f"{where}.datatype: expected {spec.datatype}, got {datatype!r:.40}")
    shape = tensor.get("shape")
    if type(shape) is not list:
        raise InputError(f"{where}.shape: expected a list of sizes")
    if "data" not in tensor:
        raise InputError(f"{where}.data: missing")
    return to_array(spec, shape, tensor["data"], where)


def _check_tensors(tensors: object, fields: set[str], where: str) -> None:
    if type(tensors) is not list or not tensors:
        raise InputError(f"{where}: expected a list of at least one tensor")
    for position, tensor in enumerate(tensors):
        _check_object(tensor, fields, f"{where}[{position}]")
        if type(tensor.get("name")) is not str:
            raise InputError(f"{where}[{position}].name: expected a string")


def _check_object(value: object, fields: set[str], where: str) -> None:
    if type(value) is not dict:
        raise InputError(f"{where}: expected an object")
    if not value.keys() <= fields:
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
