"""JSON values to arrays: exact types, exact counts, and messages that name the field."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from serving.engine.tensors import SignaturePlan, TensorPlan, from_lists, to_array

FLOATS = {Datatype.FP16, Datatype.FP32, Datatype.FP64}


def plan(datatype: Datatype = Datatype.FP32, shape: tuple[int | None, ...] = (None, 2)) -> TensorPlan:
    return TensorPlan.of(TensorSpec(name="x", datatype=datatype, shape=shape))


def elements(datatype: Datatype) -> st.SearchStrategy[Any]:
    dtype = np.dtype(datatype.numpy_name)
    if datatype in FLOATS:
        return arrays.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    return arrays.from_dtype(dtype)


@given(data=st.data(), datatype=st.sampled_from(list(Datatype)), nested=st.booleans())
def test_every_value_of_every_datatype_comes_back(data: st.DataObject, datatype: Datatype, nested: bool) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, max_side=3))
    given_array = data.draw(arrays.arrays(np.dtype(datatype.numpy_name), shape, elements=elements(datatype)))
    values = given_array.tolist() if nested else given_array.reshape(-1).tolist()
    built = to_array(plan(datatype, (None, *shape[1:])), list(shape), values, "x")
    assert built.dtype == given_array.dtype
    np.testing.assert_array_equal(built, given_array)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([2], r"in.shape: expected 2 sizes \[-1, 2\], got 1"),
        ([1, 2, 1], "in.shape: expected 2 sizes"),
        ([2, 3], r"in.shape\[1\]: expected 2, got 3"),
        ([0, 2], r"in.shape\[0\]: expected a whole number of at least 1, got 0"),
        ([-1, 2], r"in.shape\[0\]: expected a whole number"),
        ([2.0, 2], r"in.shape\[0\]: expected a whole number"),
        ([True, 2], r"in.shape\[0\]: expected a whole number"),
        ([None, 2], r"in.shape\[0\]: expected a whole number"),
        (["2", 2], r"in.shape\[0\]: expected a whole number"),
        ([10**30, 2], "in.data: expected 2000000000000000000000000000000 values"),
        ([3, 2], "in.data: expected 6 values for the shape"),
    ],
)
def test_a_wrong_shape_is_named(shape: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_array(plan(), shape, [1.0, 2.0, 3.0, 4.0], "in")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "in.data: expected a list"),
        ("1,2,3,4", "in.data: expected a list"),
        ({"0": 1}, "in.data: expected a list"),
        ([], "expected 4 values for the shape"),
        ([1, 2, 3], "expected 4 values .* got 3"),
        ([1, 2, 3, "4"], "expected numbers for FP32, got a string"),
        ([1, 2, None, 4], "got null"),
        ([1, 2, True, 4], "got true or false"),
        ([1, 2, {}, []], "got a list, an object"),
        ([[1, 2]], "expected 2 lists"),
        ([[1, 2], [3]], "expected lists of 2 at depth 1"),
        ([[1, 2], 3], "expected lists of 2 at depth 1"),
        ([[1, 2], [3, [4]]], "got a list"),
        ([[[1, 2], [3, 4]]], "expected 2 lists"),
        ([1, 2, 3, 1e39], "out of the range of FP32"),
    ],
)
def test_wrong_values_are_named(values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_array(plan(), [2, 2], values, "in")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        (Datatype.UINT8, 256),
        (Datatype.UINT8, -1),
        (Datatype.INT8, 128),
        (Datatype.INT64, 2**63),
        (Datatype.UINT64, 2**64),
        (Datatype.UINT64, -1),
        (Datatype.FP16, 65505.0),
        (Datatype.FP16, 1e300),
        (Datatype.FP32, 3.5e38),
    ],
)
def test_values_beyond_the_datatype_are_refused(datatype: Datatype, value: float) -> None:
    with pytest.raises(InputError, match=f"out of the range of {datatype}"):
        to_array(plan(datatype, (1,)), [1], [value], "in")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [(Datatype.INT32, 1.0), (Datatype.INT32, True), (Datatype.BOOL, 1), (Datatype.BOOL, "true"), (Datatype.FP64, True)],
)
def test_values_of_another_kind_are_refused(datatype: Datatype, value: object) -> None:
    with pytest.raises(InputError, match=f"for {datatype}, got"):
        to_array(plan(datatype, (1,)), [1], [value], "in")


PAIR = SignaturePlan.of(
    Signature(
        inputs=(
            TensorSpec(name="a", datatype=Datatype.FP32, shape=(None, 2)),
            TensorSpec(name="b", datatype=Datatype.INT64, shape=(None,)),
        ),
        outputs=(TensorSpec(name="y", datatype=Datatype.FP32, shape=(None,)),),
    )
)


def test_nested_lists_by_name_become_arrays_in_the_signatures_order() -> None:
    inputs = from_lists(PAIR, {"b": [7], "a": [[1, 2]]})
    assert list(inputs) == ["a", "b"]
    assert inputs["a"].tolist() == [[1, 2]]
    assert PAIR.rows(inputs) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": [[1, 2]]}, r"inputs: expected exactly \['a', 'b'\], got \['a'\]"),
        ({"a": [[1, 2]], "b": [7], "c": [1]}, "inputs: expected exactly"),
        ({"a": [[1, 2], [3, 4]], "b": [7]}, "same number of samples on axis 0, got {'a': 2, 'b': 1}"),
        ({"a": [[1, 2, 3]], "b": [7]}, r"inputs\.a\.shape\[1\]: expected 2, got 3"),
        ({"a": [1, 2], "b": [7]}, r"inputs\.a\.shape: expected 2 sizes"),
        ({"a": [[]], "b": [7]}, r"inputs\.a\.shape\[1\]: expected a whole number"),
        ({"a": [[[[[1]]]]], "b": [7]}, r"inputs\.a\.shape: expected 2 sizes"),
        ({"a": [[1, 2], [3]], "b": [7, 8]}, r"inputs\.a\.data: expected lists of 2"),
        ({"a": 3, "b": [7]}, r"inputs\.a\.shape: expected 2 sizes"),
    ],
)
def test_nested_lists_that_do_not_fit_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_lists(PAIR, values)
