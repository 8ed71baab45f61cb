"""Long lists are made a slice at a time: they are whole, and other work on the loop has its turn in between."""

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise

import pytest

from serving.engine.slices import AT_ONCE, in_slices, json_list, json_object
from tests.unit.serving.engine.doubles import run


@pytest.mark.parametrize("count", [0, 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
def test_nothing_is_lost_at_the_borders_of_slices(count: int) -> None:
    async def work() -> None:
        numbers = range(count)
        assert [number async for some in in_slices(numbers) for number in some] == list(numbers)
        assert json.loads(await json_list({"n": number} for number in numbers)) == [{"n": number} for number in numbers]
        expected = {f"m{number}": {"n": [number]} for number in numbers}
        assert json.loads(await json_object(expected.items())) == expected

    run(work())


def test_other_work_has_its_turn_after_every_slice() -> None:
    async def work() -> None:
        made: list[int] = []
        seen: list[int] = []

        def entries() -> Iterator[int]:
            for number in range(50 * AT_ONCE):
                made.append(number)
                yield number

        async def other() -> None:
            while len(made) < 50 * AT_ONCE:
                seen.append(len(made))
                await asyncio.sleep(0)

        turns = asyncio.create_task(other())
        await json_list(entries())
        await turns
        assert max(later - earlier for earlier, later in pairwise(seen)) <= AT_ONCE
        assert len(seen) == 49, "after each but the last"

    run(work())
