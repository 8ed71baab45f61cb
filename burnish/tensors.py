"""Arrays to and from the JSON of the Open Inference Protocol v2."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401  gives NumPy the type bfloat16
import numpy as np
import numpy.typing as npt

from burnish.errors import InputError

Array = npt.NDArray[np.generic]
_KINDS = "biuf"
_STRING_KINDS = "OSU"
_BFLOAT16 = np.dtype("bfloat16")


def datatype_of(array: Array) -> str:
    """Return the protocol's name of an array's type, such as ``FP32``."""
    if array.dtype == _BFLOAT16:
        return "BF16"
    return "BYTES" if array.dtype.kind in _STRING_KINDS else array.dtype.name.upper().replace("FLOAT", "FP")


def numpy_name(datatype: str) -> str:
    """Return NumPy's name of a datatype, such as ``float32``."""
    return {"BF16": "bfloat16", "BYTES": "object"}.get(datatype) or datatype.lower().replace("fp", "float")


def encode_inputs(arrays: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Return the ``inputs`` of an inference request.

    Raises:
        InputError: an array holds other things than numbers, booleans and text, or holds NaN or an infinity.
    """
    return [_encode(name, array) for name, array in arrays.items()]


def decode_outputs(outputs: list[dict[str, Any]]) -> dict[str, Array]:
    """Return the arrays of an inference answer's ``outputs`` by name."""
    return {
        output["name"]: np.asarray(output["data"], dtype=numpy_name(output["datatype"])).reshape(output["shape"])
        for output in outputs
    }


def to_numpy(value: Any) -> Any:  # noqa: ANN401
    """Make a NumPy array of a tensor; leave arrays and lists as they are."""
    return np.asarray(value.detach().cpu()) if hasattr(value, "detach") else value


def cast_lists(inputs: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Array]:
    """Make arrays of what is not one yet, each with the datatype that the model's metadata names.

    Raises:
        InputError: the model has no such input, or the lists are ragged or of another type.
    """
    datatypes = {spec["name"]: numpy_name(spec["datatype"]) for spec in metadata["inputs"]}
    arrays: dict[str, Array] = {}
    for name, value in inputs.items():
        if name not in datatypes:
            raise InputError(f"the model has no input {name!r}; its inputs are {', '.join(datatypes)}")
        try:
            arrays[name] = value if isinstance(value, np.ndarray) else np.asarray(value, dtype=datatypes[name])
        except (TypeError, ValueError) as error:
            raise InputError(f"input {name!r} is not an array of {datatypes[name]}: {error}") from error
    return arrays


def _encode(name: str, array: Array) -> dict[str, Any]:
    strings = array.dtype.kind in _STRING_KINDS
    if not (strings or array.dtype.kind in _KINDS or array.dtype == _BFLOAT16):
        raise InputError(f"input {name!r} has the type {array.dtype}; it must hold numbers, booleans or text")
    if not strings and not np.isfinite(array).all():
        raise InputError(f"input {name!r} holds NaN or an infinity, which JSON cannot carry")
    numbers = array.astype(np.float32) if array.dtype == _BFLOAT16 else array
    return {
        "name": name,
        "shape": list(array.shape),
        "datatype": datatype_of(array),
        "data": [_text(name, value) for value in array.ravel().tolist()] if strings else numbers.ravel().tolist(),
    }


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise InputError(f"input {name!r} holds {type(value).__name__}; an array of objects must hold text or bytes")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"input {name!r} holds bytes that are not text in UTF-8, which JSON cannot carry") from error
