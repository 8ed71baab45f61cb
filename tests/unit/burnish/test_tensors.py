import json

import numpy as np
import pytest

from burnish.errors import InputError
from burnish.tensors import cast_lists, decode_outputs, encode_inputs, numpy_name
from registry.records.model import Datatype

METADATA = {"inputs": [{"name": "x", "datatype": "FP32"}, {"name": "ids", "datatype": "INT64"}]}


@pytest.mark.parametrize("datatype", [datatype for datatype in Datatype if datatype is not Datatype.BYTES])
def test_every_datatype_survives_the_round_trip(datatype: Datatype) -> None:
    assert numpy_name(datatype.value) == datatype.numpy_name
    array = np.array([[0, 1], [1, 0]], datatype.numpy_name)
    (tensor,) = json.loads(json.dumps(encode_inputs({"x": array})))
    assert (tensor["datatype"], tensor["shape"]) == (datatype.value, [2, 2])
    back = decode_outputs([tensor])["x"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("values", [["a", "é\0"], [b"a", "é\0".encode()]])
def test_text_goes_as_bytes(values: list[object]) -> None:
    assert numpy_name("BYTES") == Datatype.BYTES.numpy_name
    for array in (np.array(values, object), np.array(["a", "é\0b"])):
        (tensor,) = json.loads(json.dumps(encode_inputs({"x": array})))
        assert (tensor["datatype"], tensor["shape"], tensor["data"][0]) == ("BYTES", [2], "a")
    assert decode_outputs([tensor])["x"].tolist() == ["a", "é\0b"]


def test_float32_is_exact_in_json() -> None:
    array = np.array([0.1, 1e-38, 3.4e38], np.float32)
    (tensor,) = json.loads(json.dumps(encode_inputs({"x": array})))
    np.testing.assert_array_equal(decode_outputs([tensor])["x"], array)


@pytest.mark.parametrize(
    "array", [np.array([np.nan]), np.array([np.inf], np.float32), np.array([b"\xff"]), np.array([None])]
)
def test_what_json_cannot_carry_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="input 'x'"):
        encode_inputs({"x": array})


def test_lists_take_the_models_datatypes_and_arrays_keep_theirs() -> None:
    given = np.array([1.0])
    arrays = cast_lists({"x": [[1, 2]], "ids": given}, METADATA)
    assert arrays["x"].dtype == np.float32
    assert arrays["ids"] is given


@pytest.mark.parametrize("inputs", [{"y": [1]}, {"x": [[1, 2], [3]]}, {"ids": ["a"]}])
def test_lists_that_do_not_fit_are_refused(inputs: dict[str, list[object]]) -> None:
    with pytest.raises(InputError):
        cast_lists(inputs, METADATA)
