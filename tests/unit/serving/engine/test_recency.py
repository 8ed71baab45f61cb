"""Recency: the oldest use goes first, what was used again goes after the others, and nothing is kept for ever."""

from collections.abc import Iterable

import numpy as np

from serving.engine.recency import Recency
from serving.engine.slot import Slot
from tests.unit.serving.engine.doubles import served

SLOTS = [Slot(f"m{number}", served(1)) for number in range(300)]


def taken(order: Recency) -> list[str]:
    return [slot.model for slot in order]


def asked(order: Recency, slots: Iterable[Slot], room: int) -> int:
    """Use versions in turn, with room for some; return how many loads that took."""
    loads = 0
    for slot in slots:
        if slot in set(order):
            order.touch(slot)
            continue
        loads += 1
        if len(taken(order)) == room:
            order.remove(next(iter(order)))
        order.add(slot)
    return loads


def test_the_oldest_use_goes_first_and_what_was_used_again_after_the_others() -> None:
    order = Recency()
    asked(order, SLOTS[:5], 10)
    assert taken(order) == ["m0", "m1", "m2", "m3", "m4"]
    asked(order, [SLOTS[1], SLOTS[0]], 10)
    assert taken(order) == ["m2", "m3", "m4", "m1", "m0"]
    order.demote(SLOTS[0])
    assert taken(order) == ["m0", "m2", "m3", "m4", "m1"]
    order.remove(SLOTS[1])
    assert taken(order) == ["m0", "m2", "m3", "m4"]


def test_a_run_through_many_leaves_what_is_used_again() -> None:
    order = Recency()
    asked(order, [*SLOTS[:5], *SLOTS[:5]], 10)
    asked(order, SLOTS[100:], 10)
    assert {slot.model for slot in SLOTS[1:5]} <= set(taken(order))


def test_what_is_asked_no_more_goes_for_what_is() -> None:
    order = Recency()
    asked(order, SLOTS[:10] * 3, 10)
    asked(order, [slot for slot in SLOTS[20:60] for _ in range(2)], 10)
    assert not {slot.model for slot in SLOTS[:10]} & set(taken(order))


def test_fewer_loads_than_one_list_by_last_use_where_few_are_asked_often() -> None:
    weights = 1 / np.arange(1, len(SLOTS) + 1)
    places = np.random.default_rng(0).choice(len(SLOTS), 3000, p=weights / weights.sum())
    asks = [SLOTS[place] for place in places]
    by_last_use: list[Slot] = []
    loads_by_last_use = 0
    for slot in asks:
        loads_by_last_use += slot not in by_last_use
        by_last_use = [*(one for one in by_last_use if one is not slot), slot][-30:]
    assert asked(Recency(), asks, 30) < 0.93 * loads_by_last_use
