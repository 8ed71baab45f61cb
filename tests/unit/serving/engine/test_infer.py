"""The engine: one failing session costs its requests, answers name what made them, wrong outputs never leave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from registry.errors import BurnishError, CandidateError, DeadlineExceeded, InputError, QueueFull, TransientError
from serving.engine.backlog import Backlog
from serving.engine.capture import Capture
from serving.engine.infer import Answer, Asked, Engine, contain
from serving.engine.live import Live
from serving.engine.residency import Residency, ResidencyLimits
from serving.engine.retention import Retention
from serving.engine.runs import RunThreads
from serving.engine.slot import Slot
from serving.engine.trace_context import CURRENT, Trace
from serving.engine.urgency import Urgency
from serving.runtime import Arrays
from tests.unit.serving.engine.doubles import MIB, FakeSession, FakeWorld, entry, run, served, until

X: Arrays = {"x": np.array([[1, 2]], np.float32)}
OTHER: Arrays = {"x": np.array([[3, 4]], np.float32)}


class Answering(FakeSession):
    """Answers what it is told to."""

    def __init__(self, outputs: dict[str, object]) -> None:
        super().__init__()
        self.outputs = outputs

    def run(self, inputs: object) -> Arrays:
        del inputs
        return self.outputs  # type: ignore[return-value]


@asynccontextmanager
async def open_engine(world: FakeWorld, folder: Path) -> AsyncIterator[Engine]:
    with closing(RunThreads(1)) as runs:
        residency = Residency(world, ResidencyLimits(100, 10), contain, runs)
        live = Live(residency)
        live.adopt(entry(1, {1: 100}, [served(1)]))
        capture = Capture(folder, 1, Retention(mib=100, days=1))
        yield Engine(live, residency, capture, Backlog(MIB))
        capture.close()
        await residency.close()


def now(engine: Engine, *requests: tuple[Slot, str, Arrays]) -> list[Answer | BurnishError | None]:
    asked = [Asked(*request) for request in requests]
    engine.infer_now(asked)
    return [one.outcome for one in asked]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    return FakeWorld().install(monkeypatch)


def test_an_answer_names_what_made_it_and_is_captured(world: FakeWorld, tmp_path: Path) -> None:
    world.add(served(1), FakeSession(scale=3))

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            slot = engine.route("m", None, "unit")
            answer = await engine.infer(slot, "id-1", X)
            assert answer.outputs["y"].tolist() == [[3, 6]]
            assert (answer.slot, answer.request_id) == (slot, "id-1")
            assert slot.holders == 0
        assert len(list((tmp_path / "m").glob("*.parquet"))) == 1

    run(work())


def test_a_broken_session_fails_its_request_and_the_next_is_answered(world: FakeWorld, tmp_path: Path) -> None:
    session = world.add(served(1), FakeSession())

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            slot = engine.route("m", None, "unit")
            await engine.infer(slot, "id", X)
            session.broken = True
            with pytest.raises(CandidateError, match="m version 1 failed on this batch: ZeroDivisionError: broken"):
                await engine.infer(slot, "id", X)
            session.broken = False
            await engine.infer(slot, "id", X)
            assert slot.holders == 0

    run(work())


def test_a_request_is_given_up_when_its_time_is_over_be_it_in_the_queue_or_before(
    world: FakeWorld, tmp_path: Path
) -> None:
    session = world.add(served(1), FakeSession())

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            slot = engine.route("m", None, "unit")
            world.may_load.clear()
            with pytest.raises(DeadlineExceeded, match="m version 1 did not answer within the time of the request"):
                await engine.infer(slot, "id", X, Urgency.of({"timeout": 5000}))
            world.may_load.set()
            await engine.infer(slot, "id", X, Urgency.of({"timeout": 2**64 - 1}))
            session.may_run.clear()
            session.running.clear()
            large = asyncio.create_task(engine.infer(slot, "id", {"x": np.ones((5000, 2), np.float32)}))
            await until(session.running.is_set)
            with pytest.raises(DeadlineExceeded):
                await engine.infer(slot, "id", X, Urgency.of({"timeout": 5000}))
            assert slot.batcher is not None and slot.batcher.waiting == 0
            session.may_run.set()
            await large
            assert session.shapes == [(1, 2), (5000, 2)]
            assert slot.statistics.fail.count == 2
            assert slot.holders == 0

    run(work())


def test_no_more_wait_for_a_load_than_may_wait_at_all(world: FakeWorld, tmp_path: Path) -> None:
    world.add(served(1), FakeSession())

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            engine._live.adopt(entry(1, {1: 100}, [served(1)], max_waiting=2))
            slot = engine.route("m", None, "unit")
            world.may_load.clear()
            tasks = [asyncio.create_task(engine.infer(slot, "id", X)) for _ in range(2)]
            await until(lambda: bool(world.loads))
            with pytest.raises(QueueFull, match="2 requests wait for m version 1 to be loaded"):
                await engine.infer(slot, "id", X)
            world.may_load.set()
            assert len(await asyncio.gather(*tasks)) == 2
            await engine.infer(slot, "id", X)

    run(work())


def test_an_equal_request_is_answered_from_the_cache_until_the_entry_changes(world: FakeWorld, tmp_path: Path) -> None:
    session = world.add(served(1), FakeSession(scale=3))
    caching = entry(1, {1: 100}, [served(1)], cache_mib=1)

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            slot = engine.route("m", None, "unit")
            assert not (await engine.infer(slot, "id", X)).cached
            engine._live.adopt(caching)
            assert now(engine, (slot, "id", X)) == [None]
            answers = [await engine.infer(slot, f"id-{number}", X) for number in range(3)]
            assert [answer.cached for answer in answers] == [False, True, True]
            assert {str(answer.outputs["y"].tolist()) for answer in answers} == {"[[3.0, 6.0]]"}
            assert [answer.request_id for answer in answers] == ["id-0", "id-1", "id-2"]
            assert session.shapes == [(1, 2)] * 2
            assert (await engine.infer(slot, "id", OTHER)).outputs["y"].tolist() == [[9, 12]]
            trace = Trace(None)
            token = CURRENT.set(trace)
            assert (await engine.infer(slot, "id", OTHER)).cached
            CURRENT.reset(token)
            assert trace.slot is slot, "its span says what made it"
            counted = slot.statistics
            assert (counted.cache_hit.count, counted.cache_miss.count) == (3, 2)
            assert (counted.success.count, counted.inferences, counted.executions) == (6, 3, 3)
            engine._live.adopt(caching.model_copy(update={"generation": 2}))
            assert not (await engine.infer(slot, "id", X)).cached
            engine._live.adopt(entry(3, {1: 100}, [served(1)]))
            assert now(engine, (slot, "id", X)) != [None]
            assert slot.cache is None
        captured = sum(pq.read_table(path).num_rows for path in tmp_path.rglob("*.parquet"))
        assert captured == 8, "answers from the cache are captured as well"

    run(work())


def test_requests_that_come_together_share_the_run_of_their_version(world: FakeWorld, tmp_path: Path) -> None:
    first, second = world.add(served(1), FakeSession()), world.add(served(2), FakeSession(scale=10))

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            engine._live.adopt(entry(2, {1: 100}, [served(1), served(2)]))
            one, two = (engine.route("m", version, "unit") for version in (1, 2))
            asked = ((one, "a", X), (two, "b", X), (one, "c", OTHER))
            assert now(engine, *asked) == [None] * 3, "nothing is loaded"
            await asyncio.gather(engine.infer(one, "id", X), engine.infer(two, "id", X))
            found = now(engine, *asked)
            answers = [answer for answer in found if isinstance(answer, Answer)]
            assert [answer.request_id for answer in answers] == ["a", "b", "c"]
            assert [answer.outputs["y"].tolist() for answer in answers] == [[[1, 2]], [[10, 20]], [[3, 4]]]
            assert (first.shapes, second.shapes) == ([(1, 2), (2, 2)], [(1, 2)] * 2)
            counted = one.statistics
            assert (counted.success.count, counted.inferences, counted.executions) == (3, 3, 2)
            assert counted.compute.count == 3
            second.broken = True
            failed = now(engine, *asked)
            assert isinstance(failed[0], Answer) and isinstance(failed[2], Answer)
            assert str(failed[1]) == "m version 2 failed on this batch: ZeroDivisionError: broken on purpose"
            assert two.statistics.failures == {"BACKEND": 1}
        captured = [pq.read_table(path) for path in tmp_path.rglob("*.parquet")]
        assert sum(table.num_rows for table in captured) == 7

    run(work())


def test_a_failed_run_is_not_kept(world: FakeWorld, tmp_path: Path) -> None:
    session = world.add(served(1), FakeSession())

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            engine._live.adopt(entry(1, {1: 100}, [served(1)], cache_mib=1))
            slot = engine.route("m", None, "unit")
            await engine.infer(slot, "id", OTHER)
            session.broken = True
            with pytest.raises(CandidateError):
                await engine.infer(slot, "id", X)
            session.broken = False
            assert not (await engine.infer(slot, "id", X)).cached

    run(work())


def test_what_a_worker_holds_is_bounded(world: FakeWorld, tmp_path: Path) -> None:
    session = world.add(served(1), FakeSession())
    large: Arrays = {"x": np.ones((80_000, 2), np.float32)}

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            slot = engine.route("m", None, "unit")
            session.may_run.clear()
            first = asyncio.create_task(engine.infer(slot, "id", large))
            await until(session.running.is_set)
            with pytest.raises(TransientError, match="as many as they may"):
                await engine.infer(slot, "id", large)
            session.may_run.set()
            await first
            await engine.infer(slot, "id", large)

    run(work())


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "got nothing for the output 'y', which is FP32"),
        ({"y": np.ones((1, 2))}, "got float64 for the output 'y', which is FP32"),
        ({"y": np.ones((2, 2), np.float32)}, r"the output 'y' has the shape \(2, 2\) for 1 samples"),
        ({"y": np.float32(1)}, r"the output 'y' has the shape \(\) for 1 samples"),
    ],
)
def test_outputs_that_break_the_signature_are_not_answered(
    world: FakeWorld, tmp_path: Path, outputs: dict[str, object], message: str
) -> None:
    world.add(served(1), Answering(outputs))

    async def work() -> None:
        async with open_engine(world, tmp_path) as engine:
            with pytest.raises(CandidateError, match=message):
                await engine.infer(engine.route("m", None, "unit"), "id", X)
        assert not list(tmp_path.rglob("*.parquet"))

    run(work())


@pytest.mark.parametrize("error", [InputError("as it is"), TransientError("as it is")])
def test_our_own_errors_pass_the_boundary_unchanged(error: BurnishError) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error), match=r"^as it is$"):
        contain(fail)


def test_an_interrupt_is_not_contained() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contain(interrupt)
