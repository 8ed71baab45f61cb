"""Numerical comparison: tolerance, the worst place, and outputs that cannot be compared."""

import numpy as np
import pytest

from registry.errors import CandidateError
from serving.runtime import Array
from tasks.gates.numerics import compare

BASE = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def test_the_same_outputs_are_equivalent() -> None:
    found = compare({"y": BASE}, {"y": BASE.copy()})
    assert found.equivalent and found.max_abs_difference == found.max_rel_difference == 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_float_noise_is_equivalent_at_any_scale_and_bf16_is_not(scale: float) -> None:
    noise = 1 + 1e-5 * np.random.default_rng(1).normal(size=BASE.shape)
    assert compare({"y": scale * BASE}, {"y": scale * BASE * noise}).equivalent
    assert not compare({"y": scale * BASE}, {"y": scale * BASE * (1 + 2**-8)}).equivalent


def test_a_small_value_may_differ_by_a_share_of_the_outputs_size() -> None:
    near_zero = BASE.copy()
    near_zero[0, 0] = 0
    moved = near_zero.copy()
    moved[0, 0] = 5e-5
    assert compare({"y": near_zero}, {"y": moved}).equivalent
    moved[0, 0] = 5e-4
    assert not compare({"y": near_zero}, {"y": moved}).equivalent


def test_the_worst_output_and_sample_are_named() -> None:
    moved = {"a": BASE.copy(), "b": 100 * BASE}
    moved["a"][7, 2] += 3
    moved["b"][4, 1] += 4  # larger, but less beside the output's size
    found = compare({"a": BASE, "b": 100 * BASE}, moved)
    assert (found.output, found.sample, found.equivalent) == ("a", 7, False)
    assert found.max_abs_difference == pytest.approx(3, rel=1e-5)


def test_integers_and_booleans_must_be_equal() -> None:
    large = np.full((3, 2), 50_000, np.int64)
    moved = large.copy()
    moved[1, 0] += 1
    assert not compare({"y": large}, {"y": moved}).equivalent
    flags = np.array([True, False])
    assert compare({"y": flags}, {"y": flags}).equivalent
    assert not compare({"y": flags}, {"y": ~flags}).equivalent


def test_values_that_are_not_finite_in_both_do_not_differ() -> None:
    odd = BASE.copy()
    odd[0, 0], odd[1, 1], odd[2, 2] = np.nan, np.inf, -np.inf
    assert compare({"y": odd}, {"y": odd.copy()}).equivalent


def test_a_finite_value_where_the_source_has_none_is_a_difference() -> None:
    odd = BASE.copy()
    odd[5, 0] = np.inf
    found = compare({"y": odd}, {"y": BASE})
    assert not found.equivalent and found.sample == 5


def test_all_zeros_and_single_numbers_are_compared() -> None:
    assert compare({"y": np.zeros((3, 2))}, {"y": np.zeros((3, 2))}).equivalent
    assert not compare({"y": np.zeros((3, 2))}, {"y": np.ones((3, 2))}).equivalent
    found = compare({"y": np.array(2.0)}, {"y": np.array(3.0)})
    assert (found.sample, found.max_abs_difference) == (0, 1)


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        ({"z": BASE}, "'y' is missing"),
        ({"y": BASE[:, :3]}, r"\[20, 3\], expected \[20, 4\]"),
        ({"y": np.where(BASE[9, 3] == BASE, np.nan, BASE)}, "holds nan in sample 9"),
        ({"y": np.where(BASE[9, 3] == BASE, -np.inf, BASE)}, "holds -inf in sample 9"),
    ],
)
def test_outputs_that_cannot_be_compared_lose_the_candidate(candidate: dict[str, Array], words: str) -> None:
    with pytest.raises(CandidateError, match=words):
        compare({"y": BASE}, candidate)
