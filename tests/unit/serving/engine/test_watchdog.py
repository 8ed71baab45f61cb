"""The watchdog: readiness falls, the gateway gets time to see it, then the process is told to end, once."""

import asyncio

import pytest

from serving.engine import watchdog
from serving.engine.watchdog import Watchdog
from tests.unit.serving.engine.doubles import run, until


class Guard:
    def __init__(self) -> None:
        self.bounds: list[float] = []

    def end_after(self, seconds: float) -> None:
        self.bounds.append(seconds)


class Sick:
    """A worker that falls ill when it is told to."""

    def __init__(self) -> None:
        self.guard = Guard()
        self.draining = False
        self.recycle_reason: str | None = None


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BEAT_SECONDS", 0.001)
    monkeypatch.setattr(watchdog, "NOTICE_SECONDS", 0.05)


def test_a_worker_that_is_ill_drains_first_and_is_then_told_to_end(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        worker = Sick()
        ended: list[bool] = []
        dog = Watchdog(worker, 30, 7, lambda: ended.append(worker.draining))  # type: ignore[arg-type]
        dog.start()
        await until(lambda: len(worker.guard.bounds) > 3)
        assert (worker.draining, ended) == (False, [])
        worker.recycle_reason = "it leaks"
        await until(lambda: worker.draining)
        assert ended == [], "what still comes is answered until the gateway has seen it"
        await until(lambda: bool(ended))
        assert ended == [True]
        assert worker.guard.bounds[-1] == 7
        assert set(worker.guard.bounds[:-2]) == {30.001}
        await asyncio.sleep(0.02)
        assert ended == [True], "told once"
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
    assert caplog.text == ""
