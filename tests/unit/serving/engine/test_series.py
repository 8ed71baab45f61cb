"""Series: at most so many, by traffic; whatever moves, no counter goes down and nothing is counted twice."""

import random

import pytest

from serving.engine.series import Series, SeriesTable
from serving.engine.slot import Slot
from tests.unit.serving.engine.doubles import run, served


def slots(count: int) -> list[Slot]:
    return [Slot(f"model-{number}", served(1, str(number))) for number in range(count)]


def answer(slot: Slot, times: int) -> None:
    for _ in range(times):
        slot.statistics.answered(rows=1, ns=1000)


def successes(found: list[Series]) -> dict[str, int]:
    """The first counter of each series."""
    return {one.slot.model if one.slot else "_other": one.row[0] for one in found}


def test_only_versions_that_did_something_have_a_series() -> None:
    async def work() -> None:
        all_, table = slots(1000), SeriesTable(10)
        assert await table.scrape(all_) == []
        answer(all_[7], 3)
        assert successes(await table.scrape(all_)) == {"model-7": 3}

    run(work())


def test_those_with_the_most_traffic_have_their_own_and_the_rest_is_summed_up() -> None:
    async def work() -> None:
        all_, table = slots(5), SeriesTable(2)
        for number, slot in enumerate(all_):
            answer(slot, 10 * (number + 1))
        assert successes(await table.scrape(all_)) == {"model-3": 40, "model-4": 50, "_other": 60}

    run(work())


def test_a_version_that_moves_counts_in_each_series_only_what_happened_while_it_was_in_it() -> None:
    async def work() -> None:
        (first, second), table = slots(2), SeriesTable(1)
        answer(first, 10)
        answer(second, 4)
        assert successes(await table.scrape([first, second])) == {"model-0": 10, "_other": 4}
        answer(second, 20)  # overtakes; the 20 fell between two scrapes and are told with those before
        assert successes(await table.scrape([first, second])) == {"model-1": 0, "_other": 24}
        answer(first, 1)
        answer(second, 5)
        assert successes(await table.scrape([first, second])) == {"model-1": 5, "_other": 25}
        answer(first, 50)
        assert successes(await table.scrape([first, second])) == {"model-0": 0, "_other": 75}

    run(work())


@pytest.mark.parametrize("seed", range(20))
def test_the_shared_series_never_goes_down_and_no_request_is_counted_twice(seed: int) -> None:
    random.seed(seed)

    async def work() -> None:
        live, table, made, seen = slots(6), SeriesTable(2), 0, 0
        before: dict[str, int] = {}
        for step in range(60):
            for _ in range(random.randrange(4)):
                times = random.randrange(30)
                answer(random.choice(live), times)
                made += times
            if random.random() < 0.1:
                live[random.randrange(6)] = Slot(f"new-{step}", served(1, f"new-{step}"))
            now = successes(await table.scrape(live))
            assert len(now) <= 3
            if "_other" in before:
                assert now["_other"] >= before["_other"]
            seen += sum(count - before.get(name, 0) for name, count in now.items() if count >= before.get(name, 0))
            assert seen <= made, "what Prometheus adds up is no more than what happened"
            before = now

    run(work())


def test_what_a_version_did_that_is_gone_stays_in_the_shared_series() -> None:
    async def work() -> None:
        (first, second, third), table = slots(3), SeriesTable(1)
        answer(first, 10)
        answer(second, 4)
        answer(third, 5)
        await table.scrape([first, second, third])
        answer(second, 1)
        assert successes(await table.scrape([first, third])) == {"model-0": 10, "_other": 10}
        assert successes(await table.scrape([first])) == {"model-0": 10, "_other": 10}

    run(work())
