"""Batch invariance: honest models pass, models whose samples see each other fail."""

import numpy as np
import pytest

from registry.records.gate import Verdict
from serving.runtime import Array
from tasks.gates.invariance import check_batch_invariance
from tests.unit.tasks.gates.sessions import ArraySession, dense, dense_dynamic_int8, dense_signature

X = np.random.default_rng(1).normal(size=(100, 8)).astype(np.float32)


def test_a_model_without_company_effects_passes() -> None:
    session = ArraySession(dense)
    outcome = check_batch_invariance(session, {"x": X})
    assert (outcome.rule, outcome.verdict) == ("batch_invariant", Verdict.PASS)
    assert outcome.figures["max_difference"] == 0
    assert outcome.figures["answers"] >= 32
    assert set(session.batches) == {1, 8}


def test_float_noise_passes() -> None:
    def noisy(x: Array) -> Array:
        return np.asarray(dense(x) * (1 + 1e-6 * len(x)), np.float32)

    assert check_batch_invariance(ArraySession(noisy), {"x": X}).verdict is Verdict.PASS


def test_a_scale_shared_by_the_batch_fails() -> None:
    outcome = check_batch_invariance(ArraySession(dense_dynamic_int8), {"x": X})
    assert outcome.verdict is Verdict.FAIL
    assert outcome.figures["changed_top1"] > 0.05
    assert "beside outliers" in outcome.reason


def test_the_outlier_alone_is_enough_to_fail() -> None:
    def clipped(x: Array) -> Array:
        shift = 1.0 if np.abs(x.astype(np.float32)).max() > 20 else 0.0
        return np.asarray(dense(x) + shift, np.float32)

    outcome = check_batch_invariance(ArraySession(clipped), {"x": X})
    assert outcome.verdict is Verdict.FAIL
    assert outcome.figures["changed_top1"] == 0  # all outputs moved alike


def test_a_top1_that_the_mates_change_fails_within_tolerance() -> None:
    def tie(x: Array) -> Array:
        y = np.ones((len(x), 3), np.float32)
        y[:, 1 if np.abs(x.astype(np.float32)).max() > 20 else 2] += 1e-5
        return y

    assert check_batch_invariance(ArraySession(tie), {"x": X}).verdict is Verdict.FAIL


def test_rounding_that_depends_on_the_size_of_the_batch_passes() -> None:
    def coarse(x: Array) -> Array:
        return np.asarray(dense(x) * (1 + 2**-8 * (len(x) > 1)), np.float32)

    outcome = check_batch_invariance(ArraySession(coarse), {"x": X})
    assert outcome.verdict is Verdict.PASS
    assert outcome.figures["max_difference"] == 0 and outcome.figures["max_difference_alone"] > 2**-9


def test_an_answer_that_depends_on_the_size_of_the_batch_fails() -> None:
    def shared(x: Array) -> Array:
        return np.asarray(dense(x) / len(x), np.float32)

    outcome = check_batch_invariance(ArraySession(shared), {"x": X})
    assert outcome.verdict is Verdict.FAIL and "how many samples share a run" in outcome.reason


def test_the_largest_batch_that_will_be_served_is_looked_at_too() -> None:
    def crowded(x: Array) -> Array:
        return dense_dynamic_int8(x) if len(x) > 16 else dense(x)

    assert check_batch_invariance(ArraySession(crowded), {"x": X}).verdict is Verdict.PASS
    session = ArraySession(crowded)
    outcome = check_batch_invariance(session, {"x": X}, largest_batch=64)
    assert (outcome.verdict, outcome.figures["batch_size"]) == (Verdict.FAIL, 64)
    assert set(session.batches) == {1, 8, 64}


def test_integer_inputs_have_extreme_mates() -> None:
    ids = np.random.default_rng(0).integers(0, 9, size=(60, 8))
    ids[17, 3] = 9
    table = np.array([*range(9), 300], np.float32)
    seen: list[Array] = []

    def embedded(x: Array) -> Array:
        seen.append(x)
        return dense_dynamic_int8(table[x.astype(np.int64)])

    assert check_batch_invariance(ArraySession(embedded), {"x": ids}).verdict is Verdict.FAIL
    assert any((batch[:4] == ids.max()).all() for batch in seen if len(batch) == 8)
    assert check_batch_invariance(ArraySession(dense), {"x": ids}).verdict is Verdict.PASS


def test_the_callers_samples_stay_as_they_are() -> None:
    x = X.copy()
    check_batch_invariance(ArraySession(dense), {"x": x})
    assert np.array_equal(x, X)


@pytest.mark.parametrize("samples", [1, 3, 8, 9])
def test_few_samples_are_drawn_more_than_once(samples: int) -> None:
    assert check_batch_invariance(ArraySession(dense), {"x": X[:samples]}).verdict is Verdict.PASS
    assert check_batch_invariance(ArraySession(dense_dynamic_int8), {"x": X[:samples]}).verdict is Verdict.FAIL


def test_the_same_seed_gives_the_same_outcome() -> None:
    first, second = (check_batch_invariance(ArraySession(dense_dynamic_int8), {"x": X}, seed=3) for _ in range(2))
    assert first == second


def test_a_fixed_batch_is_never_shared() -> None:
    session = ArraySession(dense, dense_signature(batch=1))
    outcome = check_batch_invariance(session, {"x": X})
    assert outcome.verdict is Verdict.PASS and "no batch axis" in outcome.reason
    assert session.batches == []
