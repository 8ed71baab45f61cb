"""Turns between tenants: whoever floods gets its share, a newcomer waits for one turn of each, nothing is lost."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.fair_turns import FairGate, FairTurns
from tests.unit.serving.engine.doubles import run, until

COSTS = st.integers(1, 20)
TENANTS = st.sampled_from(["a", "b", "c", None])


def serve(turns: FairTurns[int]) -> tuple[str | None, int]:
    """Give the next turn, whose item is also what it costs."""
    taken = turns.take()
    assert taken is not None
    turns.charge(*taken)
    return taken


@given(costs=st.dictionaries(TENANTS, st.lists(COSTS, min_size=30, max_size=30), min_size=2))
def test_tenants_that_always_have_work_differ_by_no_more_than_a_turn(costs: dict[str | None, list[int]]) -> None:
    turns = FairTurns[int]()
    for tenant, own in costs.items():
        for cost in own:
            turns.ask(tenant, cost)
    had = Counter[str | None]()
    dearest = max(max(own) for own in costs.values())
    while all(turns.waits(tenant) for tenant in costs):
        tenant, cost = serve(turns)
        had[tenant] += cost
        assert max(had.values()) - min(had[tenant] for tenant in costs) <= dearest


@given(asked=st.lists(st.tuples(TENANTS, COSTS)), rounds=st.integers(0, 40))
def test_a_newcomer_waits_for_one_turn_of_each_other(asked: list[tuple[str | None, int]], rounds: int) -> None:
    turns = FairTurns[int]()
    for tenant, cost in asked:
        turns.ask(tenant, cost)
    for _ in range(min(rounds, len(asked))):
        serve(turns)
    others = {tenant for tenant, _ in asked if turns.waits(tenant)}
    turns.ask("quiet", 1)
    before = []
    while (tenant := serve(turns)[0]) != "quiet":
        before.append(tenant)
    assert set(before) <= others
    assert len(before) == len(set(before)), "nobody went twice before it"


@given(steps=st.lists(st.tuples(TENANTS, COSTS, st.integers(0, 2), st.booleans())))
def test_every_turn_is_given_once_in_order_of_rank_and_arrival(
    steps: list[tuple[str | None, int, int, bool]],
) -> None:
    turns = FairTurns[tuple[int, int]]()
    asked: dict[str | None, list[tuple[int, int]]] = {}
    for number, (tenant, cost, rank, take) in enumerate(steps):
        turns.ask(tenant, (rank, number), rank)
        asked.setdefault(tenant, []).append((rank, number))
        if take and (taken := turns.take()) is not None:
            assert taken[1] == min(asked[taken[0]])
            asked[taken[0]].remove(taken[1])
            turns.charge(taken[0], cost)
        assert len(turns) == sum(map(len, asked.values()))
    while (taken := turns.take()) is not None:
        assert taken[1] == min(asked[taken[0]])
        asked[taken[0]].remove(taken[1])
    assert not any(asked.values())


def test_what_may_not_go_keeps_its_place_and_the_next_goes() -> None:
    turns = FairTurns[str]()
    for item in ("slow", "quick", "other"):
        turns.ask("a", item)
    turns.ask("b", "slow")
    assert turns.take(lambda item: item != "slow") == ("a", "quick")
    assert turns.take(lambda item: item == "never") is None
    turns.charge("a", 1)
    assert [turns.take(), turns.take(), turns.take()] == [("b", "slow"), ("a", "slow"), ("a", "other")]


def test_an_account_is_kept_while_it_says_anything_and_no_longer() -> None:
    turns = FairTurns[int]()
    for number in range(1000):
        turns.ask(f"t{number}", 1)
        serve(turns)
    assert len(turns._lines) < 100


def test_a_gate_lets_in_as_many_as_it_has_places_and_who_gives_up_takes_none() -> None:
    async def work() -> None:
        gate, order, may_go = FairGate(2), list[str](), asyncio.Event()

        async def enter(tenant: str) -> None:
            async with gate.turn(tenant):
                order.append(tenant)
                await may_go.wait()

        tasks = [asyncio.create_task(enter(tenant)) for tenant in ("a", "a", "a", "a", "b")]
        await until(lambda: order == ["a", "a"])
        tasks[2].cancel()
        tasks[0].cancel()  # its place goes to the tenant that had nothing
        await until(lambda: order == ["a", "a", "b"])
        may_go.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in done] == [True, False, True, False, False]
        assert order == ["a", "a", "b", "a"]

    run(work())
