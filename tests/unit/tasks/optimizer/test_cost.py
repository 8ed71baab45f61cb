"""The price of a million requests."""

import pytest

from tasks.optimizer.cost import cost_per_million
from tests.unit.tasks.optimizer.results import benchmark


def test_a_million_calls_of_3_6_ms_take_one_core_hour() -> None:
    assert cost_per_million(benchmark(3.6), 0.05) == pytest.approx(0.05)
    two = benchmark(3.6).model_copy(update={"threads": 2})
    assert cost_per_million(two, 0.05) == pytest.approx(0.1)
