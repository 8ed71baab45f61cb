"""Traffic: pure, sticky, in proportion, and monotone when a canary grows."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.records.release import TrafficSplit
from serving.engine.traffic import choose, favourite, sampled

units = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())
percents = st.floats(min_value=0.1, max_value=99.9)


def two(canary: float) -> TrafficSplit:
    return TrafficSplit(weights={1: 100 - canary, 2: canary})


def test_every_process_chooses_the_same() -> None:
    code = (
        "from registry.records.release import TrafficSplit; from serving.engine.traffic import choose;"
        "print([choose(TrafficSplit(weights={1: 50, 2: 50}), f'unit-{i}') for i in range(40)])"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300).stdout
    assert there.strip() == str([choose(two(50), f"unit-{i}") for i in range(40)])


@pytest.mark.parametrize("canary", [1, 10, 50, 90])
def test_shares_are_as_asked(canary: float) -> None:
    chosen = sum(choose(two(canary), f"unit-{i}") == 2 for i in range(20_000))
    assert abs(chosen / 200 - canary) < 1.5


def test_three_shares_are_as_asked() -> None:
    split = TrafficSplit(weights={1: 70, 2: 20, 3: 10})
    chosen = [choose(split, f"unit-{i}") for i in range(20_000)]
    for version, weight in split.weights.items():
        assert abs(chosen.count(version) / 200 - weight) < 1.5


@given(unit=units, small=percents, large=percents)
def test_a_growing_canary_only_wins_units(unit: str, small: float, large: float) -> None:
    small, large = sorted((small, large))
    if choose(two(small), unit) == 2:
        assert choose(two(large), unit) == 2


@given(unit=units, weights=st.lists(percents, min_size=3, max_size=5), grown=percents)
def test_units_move_only_to_the_version_that_grows(unit: str, weights: list[float], grown: float) -> None:
    def split(first: float) -> TrafficSplit:
        rest = sum(weights)
        others = {number: (100 - first) * weight / rest for number, weight in enumerate(weights, start=2)}
        return TrafficSplit(weights={1: first, **others})

    before, after = choose(split(min(grown, 50)), unit), choose(split(max(grown, 50)), unit)
    assert after in (before, 1)


@given(unit=units)
def test_a_version_without_weight_gets_nothing(unit: str) -> None:
    assert choose(TrafficSplit(weights={1: 0, 2: 100, 3: 0}), unit) == 2
    assert choose(TrafficSplit(weights={3: 100}), unit) == 3


@given(unit=units, canary=percents)
def test_order_of_the_weights_does_not_matter(unit: str, canary: float) -> None:
    turned = TrafficSplit(weights={2: canary, 1: 100 - canary})
    assert choose(two(canary), unit) == choose(turned, unit)


def test_the_champion_has_the_greatest_share_and_of_equals_is_the_oldest() -> None:
    assert favourite(two(10)) == 1
    assert favourite(two(90)) == 2
    assert favourite(two(50)) == 1


def test_sampling_keeps_its_share_and_nothing_or_everything_at_the_ends() -> None:
    ids = [f"request-{i}" for i in range(20_000)]
    assert abs(sum(sampled(name, 0.1) for name in ids) / 200 - 10) < 1.5
    assert not any(sampled(name, 0) for name in ids)
    assert all(sampled(name, 1) for name in ids)
