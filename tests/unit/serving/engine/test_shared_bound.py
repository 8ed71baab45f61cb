"""A bound that tenants share: floods keep to their part, who holds nothing finds room, the sum is kept."""

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.shared_bound import TIMES_FREE, SharedBound

BOUND = 1000
STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 60), st.booleans()), max_size=200)


@given(steps=STEPS)
def test_no_more_is_held_than_the_bound_and_one_amount_and_all_of_it_is_accounted_for(
    steps: list[tuple[str, int, bool]],
) -> None:
    bound, held = SharedBound(BOUND), list[tuple[str, int]]()
    for tenant, amount, leaves in steps:
        if leaves and held:
            bound.give_back(*held.pop())
        if bound.fits(tenant, amount):
            bound.take(tenant, amount)
            held.append((tenant, amount))
        assert bound.total == sum(amount for _, amount in held) < BOUND + 60
        assert bound.alone(tenant) == all(one == tenant for one, _ in held)
    for one in held:
        bound.give_back(*one)
    assert (bound.total, bound.full) == (0, False)


@given(floods=st.integers(1, 8), amount=st.integers(1, 5))
def test_however_many_flood_each_has_as_much_as_the_other_and_the_next_still_finds_room(
    floods: int, amount: int
) -> None:
    bound, took = SharedBound(BOUND), dict.fromkeys(range(floods), 0)
    for _ in range(BOUND):
        for tenant in took:
            if bound.fits(str(tenant), amount):
                bound.take(str(tenant), amount)
                took[tenant] += amount
    assert max(took.values()) - min(took.values()) <= amount
    expected = TIMES_FREE * BOUND / (1 + TIMES_FREE * floods)
    assert abs(took[0] - expected) <= (TIMES_FREE + 1) * amount * floods
    assert bound.fits("quiet", BOUND), "whatever it brings first"
    bound.take("quiet", 10)
    assert bound.fits("quiet", 10)
