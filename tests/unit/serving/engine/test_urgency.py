"""The parameters of the schedule policy extension."""

import time

import pytest

from registry.errors import InputError
from serving.engine.urgency import DEFAULT_PRIORITY, ROUTINE, Urgency


def test_zero_is_the_default_of_each() -> None:
    assert Urgency.of({}) == Urgency.of({"priority": 0, "timeout": 0, "other": "x"}) == ROUTINE
    assert Urgency.of({"binary_data_output": True}) is ROUTINE
    assert ROUTINE.seconds_left() is None


def test_a_timeout_is_in_microseconds() -> None:
    before = time.perf_counter_ns()
    urgency = Urgency.of({"priority": 1, "timeout": 2_000_000})
    after = time.perf_counter_ns()
    assert urgency.priority == 1
    assert urgency.deadline_ns is not None
    assert before + 2_000_000_000 <= urgency.deadline_ns <= after + 2_000_000_000
    left = urgency.seconds_left()
    assert left is not None and left <= 2


@pytest.mark.parametrize("name", ["priority", "timeout"])
@pytest.mark.parametrize("value", [-1, 1.5, "1", True, None, 2**64, [1]])
def test_anything_but_a_whole_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"^parameters.{name}: expected a whole number"):
        Urgency.of({name: value})


def test_the_earlier_of_two_deadlines_holds() -> None:
    assert ROUTINE.within(None) is ROUTINE
    assert Urgency(3).within(1.0).priority == 3
    soon, later = Urgency.of({"timeout": 1_000}), Urgency.of({"timeout": 10**12})
    assert soon.within(60) == soon
    assert later.within(60) != later
    assert DEFAULT_PRIORITY > 1, "a request that says nothing can be overtaken"
