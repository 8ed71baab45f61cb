"""Usage: kept from run to run, faded with time, and what was used most is loaded first."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest

from serving.engine.infer import contain
from serving.engine.live import Live
from serving.engine.preload import load_pinned, preload
from serving.engine.residency import Residency, ResidencyLimits
from serving.engine.runs import RunThreads
from serving.engine.usage import HALF_LIFE_SECONDS, Usage
from tests.unit.serving.engine.doubles import MIB, FakeSession, FakeWorld, entry, run, served

NAMES = ("rare", "often", "never", "broken")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    world = FakeWorld().install(monkeypatch)
    for number, name in enumerate(NAMES):
        world.add(served(number + 1, name), FakeSession())
    world.sessions.pop(served(4, "broken").artifact.sha256)
    return world


def adopt(live: Live, *, pinned: str | None = None) -> None:
    for number, name in enumerate(NAMES):
        one = entry(1, {number + 1: 100}, [served(number + 1, name)], name)
        if name == pinned:
            one = one.model_copy(update={"policy": one.policy.model_copy(update={"pinned": True})})
        live.adopt(one)


def test_uses_are_counted_once_and_fade(world: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("serving.engine.usage.time.time", lambda: now)
    file = tmp_path / "state" / "usage.json"

    async def work() -> None:
        nonlocal now
        with closing(RunThreads(1)) as runs:
            live = Live(Residency(world, ResidencyLimits(10, 10), contain, runs))
            adopt(live)
            account = Usage(file)
            for name, count in (("rare", 1), ("often", 8)):
                live.route(name, None, "u").statistics.inferences += count
            await account.keep(live)
            await account.keep(live)
            assert json.loads(file.read_text())["models"] == {"often": 8.0, "rare": 1.0}
            now += HALF_LIFE_SECONDS
            again = Usage(file)
            again.read()
            assert again.ranking() == ["often", "rare"]
            live.route("rare", None, "u").statistics.inferences = 0
            live.route("often", None, "u").statistics.inferences = 0
            live.route("never", None, "u").statistics.inferences = 5
            await again.keep(live)
            assert json.loads(file.read_text())["models"] == {"never": 5.0, "often": 4.0, "rare": 0.5}
            assert list(file.parent.iterdir()) == [file]

    run(work())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"models": 3}', '{"at": 1, "models": {"a": "x"}}'])
def test_a_damaged_account_is_begun_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / "usage.json"
    file.write_text(text)
    account = Usage(file)
    account.read()
    assert account.ranking() == []


def test_what_was_used_most_is_loaded_up_to_a_share_of_the_budget(world: FakeWorld) -> None:
    async def work() -> None:
        with closing(RunThreads(1)) as runs:
            residency = Residency(world, ResidencyLimits(4, 10), contain, runs)
            live = Live(residency)
            adopt(live)
            await preload(live, residency, ["gone", "broken", "often", "rare", "never"], 0.5)
            assert [name for name in NAMES if live.route(name, None, "u").batcher] == ["rare", "often"]
            assert world.resident_set_bytes() == 2 * MIB
            await residency.close()

    run(work())


def test_pinned_models_are_loaded_at_start_and_one_that_cannot_be_says_why(world: FakeWorld) -> None:
    async def work() -> None:
        with closing(RunThreads(1)) as runs:
            residency = Residency(world, ResidencyLimits(4, 10), contain, runs)
            live = Live(residency)
            adopt(live, pinned="often")
            await load_pinned(live, residency)
            assert [name for name in NAMES if live.route(name, None, "u").batcher] == ["often"]
            adopt(live, pinned="broken")
            await load_pinned(live, residency)
            assert "broken version 4 cannot be loaded" in (live.route("broken", None, "u").failure or "")
            await asyncio.sleep(0)
            await residency.close()

    run(work())
