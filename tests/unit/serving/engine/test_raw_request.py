"""Raw binary requests: the shape of the only input follows from the size of the body, or the request is refused."""

import re

import numpy as np
import pytest

from registry.errors import InputError
from registry.records.model import Datatype, Signature, TensorSpec
from serving.engine.raw_request import decode_raw
from serving.engine.tensors import SignaturePlan
from serving.runtime import Array

Shape = tuple[int | None, ...]


def plan_of(*shapes: Shape, datatype: Datatype = Datatype.FP32, batched: bool = False) -> SignaturePlan:
    inputs = tuple(TensorSpec(name="xy"[at], datatype=datatype, shape=shape) for at, shape in enumerate(shapes))
    output = TensorSpec(name="out", datatype=datatype, shape=(None,) if batched else (1,))
    plan = SignaturePlan.of(Signature(inputs=inputs, outputs=(output,)))
    assert plan.batched == batched
    return plan


def decoded(data: bytes, plan: SignaturePlan) -> Array:
    ((name, array),) = decode_raw(memoryview(data), plan).items()
    assert name == "x"
    return array


@pytest.mark.parametrize(
    ("shape", "batched", "expected"),
    [
        ((3, 4), False, (3, 4)),
        ((None, 4), False, (3, 4)),
        ((2, None, 2), False, (2, 3, 2)),
        ((None,), False, (12,)),
        ((None, 12), True, (1, 12)),
        ((None, 4), True, (3, 4)),
        ((None, 3, None), True, (1, 3, 4)),
    ],
)
def test_the_shape_follows_from_the_size_of_the_body(shape: Shape, batched: bool, expected: tuple[int, ...]) -> None:
    values = np.arange(12, dtype=np.float32)
    array = decoded(values.tobytes(), plan_of(shape, batched=batched))
    assert array.shape == expected
    assert array.dtype == np.float32
    assert array.tobytes() == values.tobytes()


@pytest.mark.parametrize("datatype", [one for one in Datatype if one is not Datatype.BYTES])
def test_every_datatype_is_read_by_its_own_size(datatype: Datatype) -> None:
    values = np.array([1, 0, 1], np.dtype(datatype.numpy_name))
    array = decoded(values.tobytes(), plan_of((None,), datatype=datatype))
    assert (array.dtype, array.tolist()) == (values.dtype, values.tolist())


@pytest.mark.parametrize(
    ("shape", "batched", "expected"),
    [((1,), False, (1,)), ((1, 1), False, (1, 1)), ((None,), True, (1,)), ((None, 1), True, (1, 1))],
)
@pytest.mark.parametrize("data", [b"", b"\0\xff", b"\3\0\0\0abc"])
def test_bytes_are_one_element_without_a_length(
    shape: Shape, batched: bool, expected: tuple[int, ...], data: bytes
) -> None:
    array = decoded(data, plan_of(shape, datatype=Datatype.BYTES, batched=batched))
    assert (array.shape, array.reshape(-1).tolist()) == (expected, [data])


@pytest.mark.parametrize(
    ("plan", "size", "message"),
    [
        (plan_of((3, 4)), 47, "the body, 'x': expected 48 bytes for FP32 of the shape [3, 4], got 47"),
        (plan_of((3, 4)), 96, "the body, 'x': expected 48 bytes for FP32 of the shape [3, 4], got 96"),
        (plan_of((3, 4)), 0, "the body, 'x': expected 48 bytes for FP32 of the shape [3, 4], got 0"),
        (plan_of((None, 4)), 24, "expected a multiple of 16 bytes for FP32 of the shape [-1, 4], got 24"),
        (plan_of((None, 4)), 0, "expected a multiple of 16 bytes for FP32 of the shape [-1, 4], got 0"),
        (plan_of((None, 4), batched=True), 8, "expected a multiple of 16 bytes for FP32 of the shape [-1, 4], got 8"),
        (plan_of((None, 3, None), batched=True), 16, "a multiple of 12 bytes for FP32 of the shape [1, 3, -1], got 16"),
        (plan_of((None, 4, None)), 16, "the body, 'x': 2 sizes of the shape [-1, 4, -1] vary"),
        (plan_of((None, None, None), batched=True), 16, "the body, 'x': 2 sizes of the shape [1, -1, -1] vary"),
        (plan_of((2,), (2,)), 16, "the model has ['x', 'y']; send JSON"),
        (plan_of((None,), datatype=Datatype.BYTES), 4, "without JSON BYTES are one element, but the shape is [-1]"),
        (plan_of((2,), datatype=Datatype.BYTES), 4, "without JSON BYTES are one element, but the shape is [2]"),
        (
            plan_of((None, 4), datatype=Datatype.BYTES, batched=True),
            4,
            "without JSON BYTES are one element, but the shape is [1, 4]",
        ),
        (plan_of((1,), datatype=Datatype.FP16), 4, "expected 2 bytes for FP16 of the shape [1], got 4"),
    ],
)
def test_what_the_size_does_not_give_is_refused(plan: SignaturePlan, size: int, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        decoded(bytes(size), plan)


def test_booleans_are_0_or_1() -> None:
    with pytest.raises(InputError, match="the body, 'x': expected bytes of 0 or 1 for BOOL"):
        decoded(b"\1\2", plan_of((None,), datatype=Datatype.BOOL))
