"""The watchdog: readiness falls, the gateway gets time to see it, then the process is told to end, once."""

import asyncio

import pytest

from serving.engine import watchdog
from serving.engine.watchdog import Watchdog
from tests.unit.serving.engine.doubles import run, until


class Guard:
    def __init__(self) -> None:
        self.bounds: list[float] = []
        self.story: list[object] = []
        """What happened, in order: bounds that are another than the last, and what the worker did."""

    def end_after(self, seconds: float) -> None:
        self.bounds.append(seconds)
        self.happened(seconds)

    def happened(self, what: object) -> None:
        if self.story[-1:] != [what]:
            self.story.append(what)


class Sick:
    """A worker that falls ill when it is told to."""

    def __init__(self) -> None:
        self.guard = Guard()
        self.recycle_reason: str | None = None

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "draining":
            self.guard.happened("drains")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BEAT_SECONDS", 0.001)
    monkeypatch.setattr(watchdog, "NOTICE_SECONDS", 0.05)


def test_a_worker_that_is_ill_drains_first_and_is_then_told_to_end(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        worker = Sick()
        story = worker.guard.story
        dog = Watchdog(worker, 30, 7, lambda: worker.guard.happened("told to end"))  # type: ignore[arg-type]
        dog.start()
        await until(lambda: len(worker.guard.bounds) > 3)
        assert story == [30.001]
        worker.recycle_reason = "it leaks"
        await until(lambda: story[-1] == 7)
        # Once it drains, what still comes is answered for a while, until the gateway has seen it.
        assert story == [30.001, "drains", 30.05, "told to end", 7]
        await asyncio.sleep(0.02)
        assert len(story) == 5, "told once"
        await dog.stop()

    run(work())
    assert "this worker is to be replaced: it leaks" in caplog.text


def test_a_worker_that_stops_has_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        worker = Sick()
        dog = Watchdog(worker, 30, 7)  # type: ignore[arg-type]
        dog.start()
        await until(lambda: bool(worker.guard.bounds))
        await dog.stop()
        assert worker.guard.bounds[-1] == 7
        count = len(worker.guard.bounds)
        await asyncio.sleep(0.02)
        assert len(worker.guard.bounds) == count, "the loop shows no more that it turns"

    run(work())
    assert not [record for record in caplog.records if record.name.startswith("serving")]
