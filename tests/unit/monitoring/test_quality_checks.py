"""How much the range check allows: what chance explains, and no more."""

import numpy as np
import pandas as pd
import pytest

from monitoring.quality_checks import RANGE_SHARE, range_checks
from registry.records.model import Datatype, TensorSpec

SPEC = TensorSpec(name="x", datatype=Datatype.FP32, shape=(None,))


def allowed_share(rows: int, other: pd.DataFrame) -> tuple[float, float]:
    """The share of samples that may exceed, and the bound that they exceed."""
    _, above = range_checks(SPEC, rows, other, "evaluation")
    mostly, bound = above.arguments["mostly"], above.arguments["max_value"]
    assert isinstance(mostly, float)
    assert isinstance(bound, float)
    return 1 - mostly, bound


def frame(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"x:min": values, "x:max": values})


@pytest.mark.parametrize(("rows", "other_rows"), [(1, 1), (1, 50), (8, 4), (500, 2), (500, 30)])
def test_heavy_tails_of_one_distribution_are_hardly_ever_called_different(rows: int, other_rows: int) -> None:
    random = np.random.default_rng(rows)
    called = 0
    for _ in range(300):
        checked, other = random.lognormal(0, 3, rows), random.lognormal(0, 3, other_rows)
        share, bound = allowed_share(rows, frame(other))
        called += bool((checked > bound).mean() > share)
    assert called <= 3  # 300 at 0.001; more than 3 has a chance below 0.0003


def test_many_samples_leave_little_to_chance() -> None:
    share, bound = allowed_share(180, frame(np.linspace(0, 1, 898)))
    assert share == pytest.approx(RANGE_SHARE)
    assert bound == 1.5


def test_one_sample_against_few_can_tell_nothing() -> None:
    assert allowed_share(1, frame(np.linspace(0, 1, 20)))[0] == 1


def test_a_set_without_a_finite_value_has_no_range() -> None:
    assert list(range_checks(SPEC, 5, frame(np.array([np.inf])), "evaluation")) == []
