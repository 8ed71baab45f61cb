"""Comparing two versions' outputs: exact numbers, no surprise on what cannot be compared, bounded memory."""

import math

import ml_dtypes
import numpy as np
import pytest

from serving.engine.comparison import Comparison, PairedDifference, compare
from serving.runtime import Array


def one(left: Array, right: Array | None) -> tuple[float, float, float | None]:
    (found,) = compare({"y": left}, {} if right is None else {"y": right})
    return found.max_abs, found.max_rel, found.agreement


def floats(*rows: list[float]) -> Array:
    return np.array(rows, np.float32)


def test_scores_are_compared_by_value_and_by_the_place_of_the_largest() -> None:
    left = floats([1, 2, 4], [3, 1, 0], [0, 0, 1], [5, 6, 8])
    right = left.copy()
    right[1] = [0, 1, 0]
    assert one(left, right) == (3.0, 3 / 8, 0.75)
    assert one(left, left.copy()) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "right", [None, floats([1, 2]), floats([1, 2, 3]).astype(np.float64), floats([1, 2, 3]).astype(np.int32)]
)
def test_what_has_another_shape_or_type_is_incomparable(right: Array | None) -> None:
    assert one(floats([1, 2, 3]), right) == (math.inf, math.inf, 0.0)


def test_what_is_not_finite_is_equal_only_to_itself() -> None:
    odd = floats([math.nan, math.inf, -math.inf, 1])
    assert one(odd, odd.copy())[:2] == (0.0, 0.0)
    for place in range(3):
        other = odd.copy()
        other[0, place] = 0
        assert one(odd, other)[:2] == (math.inf, math.inf)
    assert one(floats([0, 0]), floats([0, 1]))[:2] == (1.0, math.inf), "relative to nothing"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int8, np.uint64, np.bool_])
def test_every_numeric_type_is_compared(dtype: type) -> None:
    left, right = np.array([0, 1, 1]), np.array([0, 1, 0])
    assert one(left.astype(dtype), right.astype(dtype)) == (1.0, 1.0, None)


def test_text_is_equal_or_not() -> None:
    words = np.array(["a", b"b"], object)
    assert one(words, words.copy()) == (0.0, 0.0, None)
    assert one(words, np.array(["a", "c"], object)) == (math.inf, math.inf, None)


def test_outputs_without_rows_or_values_do_not_fail() -> None:
    assert one(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)) == (0.0, 0.0, None)
    assert one(np.array(2, np.float32), np.array(1, np.float32)) == (1.0, 0.5, None)


def pair(left: Array, right: Array, primary_ns: int = 1_000_000, shadow_ns: int = 4_000_000) -> PairedDifference:
    return PairedDifference("id", len(left), primary_ns, shadow_ns, compare({"y": left}, {"y": right}))


def test_pairs_agree_by_class_or_where_there_is_none_by_closeness() -> None:
    assert pair(floats([1, 2]), floats([0, 9])).agreed
    assert not pair(floats([1, 2]), floats([3, 2])).agreed
    assert pair(floats([100.0]), floats([100.9])).agreed
    assert not pair(floats([100.0]), floats([101.1])).agreed


def test_a_comparison_sums_up() -> None:
    comparison = Comparison(1, 2)
    comparison.add(pair(floats([1, 2], [2, 1]), floats([1, 2], [1, 2])))
    comparison.add(pair(floats([1, 2]), floats([1, 2])))
    comparison.add(pair(floats([1, 2]), floats([1, math.nan])))
    comparison.fail("lost")
    found = comparison.figures()
    assert (found["primary"], found["shadow"], found["compared"], found["agreed"]) == (1, 2, 3, 1 + 1)
    assert (found["failed"], found["error"]) == (1, "lost")
    output = found["outputs"]["y"]
    assert (output["incomparable"], output["top1_agreement"]) == (1, 3 / 4)
    assert output["max_abs"] == {"count": 2, "mean": 0.5, "max": 1.0}
    assert (output["max_rel"]["count"], output["max_rel"]["max"], sum(output["max_rel"]["histogram"])) == (2, 0.5, 2)
    assert (found["primary_ms"]["mean"], found["shadow_ms"]["max"]) == (1.0, 4.0)
    assert Comparison(1, 2).figures()["primary_ms"]["mean"] is None
