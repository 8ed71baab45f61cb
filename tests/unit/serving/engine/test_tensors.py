"""JSON values to arrays: exact types, exact counts, and messages that name the field."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from serving.engine.tensors import (
    SignaturePlan,
    TensorPlan,
    from_bytes,
    from_lists,
    to_array,
    to_bytes,
    to_lists,
    to_values,
)
from serving.runtime import Array

FLOATS = {Datatype.FP16, Datatype.FP32, Datatype.FP64}


def plan(datatype: Datatype = Datatype.FP32, shape: tuple[int | None, ...] = (None, 2)) -> TensorPlan:
    return TensorPlan.of(TensorSpec(name="x", datatype=datatype, shape=shape))


@st.composite
def tensors(draw: st.DrawFn, datatype: Datatype, *, finite: bool = True) -> Array:
    """Any array of a datatype; BF16 is drawn by its bits, BYTES as bytes."""
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=3, max_side=3))
    if datatype is Datatype.BYTES:
        return draw(arrays.arrays(np.dtype(object), shape, elements=st.binary(max_size=9), fill=st.nothing()))
    if datatype is Datatype.BF16:
        bits = draw(arrays.arrays(np.uint16, shape)).view(ml_dtypes.bfloat16)
        return np.where(np.isfinite(bits), bits, ml_dtypes.bfloat16(0)) if finite else bits
    dtype = np.dtype(datatype.numpy_name)
    floats = {"allow_nan": not finite, "allow_infinity": not finite} if datatype in FLOATS else {}
    return draw(arrays.arrays(dtype, shape, elements=arrays.from_dtype(dtype, **floats)))  # type: ignore[arg-type]


@given(data=st.data(), datatype=st.sampled_from(list(Datatype)), nested=st.booleans())
def test_every_value_of_every_datatype_comes_back(data: st.DataObject, datatype: Datatype, nested: bool) -> None:
    array = data.draw(tensors(datatype))
    values = array.tolist() if nested else array.reshape(-1).tolist()
    shape = list(array.shape)
    if datatype is Datatype.BF16:
        values = array.astype(float).tolist()
    built = to_array(plan(datatype, (None, *shape[1:])), shape, values, "x")
    assert built.dtype == array.dtype
    np.testing.assert_array_equal(built, array)


@given(data=st.data(), datatype=st.sampled_from(list(Datatype)))
def test_every_bit_of_every_datatype_comes_back(data: st.DataObject, datatype: Datatype) -> None:
    array = data.draw(tensors(datatype, finite=False))
    tensor = plan(datatype, (None, *array.shape[1:]))
    written = to_bytes(tensor, array)
    built = from_bytes(tensor, list(array.shape), memoryview(written), "x", finite=False)
    assert (built.dtype, built.shape, to_bytes(tensor, built)) == (array.dtype, array.shape, written)
    if datatype is Datatype.BYTES:
        assert built.tolist() == array.tolist()


@given(data=st.data(), datatype=st.sampled_from(list(Datatype)), raw=st.binary(max_size=40))
def test_bytes_that_are_no_tensor_are_refused_or_are_one(data: st.DataObject, datatype: Datatype, raw: bytes) -> None:
    shape = data.draw(st.lists(st.integers(1, 2**40), min_size=2, max_size=2))
    tensor = plan(datatype, (None, None))
    try:
        built = from_bytes(tensor, shape, memoryview(raw), "x")
    except InputError as error:
        assert str(error).startswith("x")
    else:
        assert to_bytes(tensor, built) == raw


def test_bytes_are_read_behind_their_lengths() -> None:
    tensor = plan(Datatype.BYTES, (None,))
    assert to_bytes(tensor, np.array([b"ab", b""], object)) == b"\2\0\0\0ab\0\0\0\0"
    for raw, message in (
        (b"\2\0\0\0ab", "x: expected 2 elements, each behind its length, in 6 bytes"),
        (b"\2\0\0\0ab\1\0\0\0", "x: element 1 of 2 is cut short"),
        (b"\2\0\0\0ab\0\0", "x: element 1 of 2 is cut short"),
        (b"\xff\xff\xff\xff\0\0\0\0", "x: element 0 of 2 is cut short"),
        (b"\0\0\0\0\0\0\0\0!", "x: 1 bytes stand behind the last of 2"),
    ):
        with pytest.raises(InputError, match=message):
            from_bytes(tensor, [2], memoryview(raw), "x")


def test_text_is_bytes_in_json_and_other_bytes_are_not() -> None:
    tensor = plan(Datatype.BYTES, (None,))
    assert to_array(tensor, [2], ["é", ""], "x").tolist() == ["é".encode(), b""]
    assert to_values(tensor, np.array(["é".encode()], object)) == ["é"]
    with pytest.raises(InputError, match=r"outputs: 'x' holds bytes that are not text.*binary_data"):
        to_values(tensor, np.array([b"\xff"], object))
    with pytest.raises(InputError, match=r"x.data: a string holds half a character"):
        to_array(tensor, [1], ["\ud800"], "x")
    with pytest.raises(InputError, match=r"x.data: expected strings for BYTES, got a whole number"):
        to_array(tensor, [1], [1], "x")


def test_bytes_keep_their_last_nul_as_lists() -> None:
    spec = TensorSpec(name="x", datatype=Datatype.BYTES, shape=(None, 2))
    array = np.array([[b"a\0", b""]], object)
    assert to_lists(SignaturePlan.of(Signature(inputs=(spec,), outputs=(spec,))), {"x": array}) == {"x": [["a\0", ""]]}


def test_bf16_is_the_nearest_one_and_answers_as_the_same_number() -> None:
    built = to_array(plan(Datatype.BF16), [1, 2], [1.001, 3], "x")
    assert built.astype(float).tolist() == [[1.0, 3.0]]
    signature = Signature(
        inputs=(spec := TensorSpec(name="x", datatype=Datatype.BF16, shape=(None, 2)),), outputs=(spec,)
    )
    assert to_lists(SignaturePlan.of(signature), {"x": built}) == {"x": [[1.0, 3.0]]}


@pytest.mark.parametrize("datatype", sorted({*FLOATS, Datatype.BF16}))
def test_what_is_not_finite_is_refused_unless_it_may_pass(datatype: Datatype) -> None:
    array = np.array([[np.nan, np.inf]], datatype.numpy_name)
    raw = memoryview(array.tobytes())
    with pytest.raises(InputError, match="x: a value is not a finite number"):
        from_bytes(plan(datatype), [1, 2], raw, "x")
    assert from_bytes(plan(datatype), [1, 2], raw, "x", finite=False).tobytes() == array.tobytes()
    values = array.astype(float).reshape(-1).tolist()
    with pytest.raises(InputError, match=r"x\.data: a value is not a finite number"):
        to_array(plan(datatype), [1, 2], values, "x")
    assert to_array(plan(datatype), [1, 2], values, "x", finite=False).tobytes() == array.tobytes()


def test_fp16_is_rounded_once_as_numpy_does() -> None:
    beyond_the_middle = [1 + 2**-11 + 2**-30, 2**-25 + 2**-60]  # which FP32 takes for the middle
    built = to_array(plan(Datatype.FP16), [1, 2], beyond_the_middle, "x")
    assert built.tolist() == [[1 + 2**-10, 2**-24]]


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.FP64])
@pytest.mark.parametrize("rows", [1, 10_000])
def test_finite_values_pass_whatever_their_squares_are(datatype: Datatype, rows: int) -> None:
    array = np.full((rows, 2), np.finfo(datatype.numpy_name).max, datatype.numpy_name)
    assert from_bytes(plan(datatype), [rows, 2], memoryview(array.tobytes()), "x").tobytes() == array.tobytes()
    array[-1, -1] = -np.inf
    with pytest.raises(InputError, match="x: a value is not a finite number"):
        from_bytes(plan(datatype), [rows, 2], memoryview(array.tobytes()), "x")


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
        (Datatype.BF16, 3.4e38),
        (Datatype.BF16, 1e300),
        (Datatype.FP32, 3.5e38),
    ],
)
@pytest.mark.parametrize("finite", [True, False])
def test_values_beyond_the_datatype_are_refused(datatype: Datatype, value: float, finite: bool) -> None:
    with pytest.raises(InputError, match=f"out of the range of {datatype}"):
        to_array(plan(datatype, (1,)), [1], [value], "in", finite=finite)


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
