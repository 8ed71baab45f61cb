"""The crash guard: who ended a worker, and for how long they stay unloaded."""

import faulthandler
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import TransientError
from serving.engine import crash_guard, deaths
from serving.engine.crash_guard import CrashGuard, judge
from serving.engine.deaths import DeathBook
from serving.engine.flight_record import Visit
from serving.engine.infer import contained
from tests.unit.serving.engine.doubles import served

ONE, TWO = served(1), served(2)
RUNS_ONE = Visit("one", 0xA, loading=False, since_ns=0)
LOADS_TWO = Visit("two", 0xB, loading=True, since_ns=0)
BOTH = (RUNS_ONE, LOADS_TWO)
CRASH = "loop thread 0xc\nFatal Python error: Segmentation fault\n\nThread 0xb (most recent call first):\n\n{} 0xa"
STALL = "loop thread {}\nTimeout (0:00:30)!\nThread 0xa (most recent call first):\n"


@pytest.mark.parametrize(
    ("report", "suspects", "how"),
    [
        (CRASH.format("Current thread"), {"one"}, "crash: Segmentation fault"),
        (CRASH.format("Current thread").replace("0xa", "0xd"), set(), "crash: Segmentation fault"),
        (CRASH.format("Thread"), {"one", "two"}, "crash: Segmentation fault"),
        (STALL.format("0xa"), {"one"}, "the event loop stood still in a run"),
        (STALL.format("0xd"), set(), "the event loop stood still in a run"),
        ("loop thread 0xa\n", {"two"}, "killed while it was loaded"),
        ("", {"two"}, "killed while it was loaded"),
    ],
)
def test_the_judgement(report: str, suspects: set[str], how: str) -> None:
    assert judge(report, BOTH) == (frozenset(suspects), how)
    assert judge(report, ())[0] == frozenset()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "engine"
    faulthandler.enable()  # a guard that is closed turns it off


def leave(folder: Path, worker: str, report: str, *, loading: bool) -> None:
    """Leave what a worker that died in version 1 would: the record of a process is read by another one."""
    program = (
        "import os, sys; from pathlib import Path; from serving.engine.flight_record import FlightRecord;"
        "from serving.engine.infer import contained; from tests.unit.serving.engine.doubles import served;"
        f"record = FlightRecord(contained, Path(sys.argv[1]) / '{worker}.record');"
        f"record.around(served(1).digest, loading={loading})(os._exit, 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], timeout=300, check=False)
    assert done.returncode == 9
    (folder / f"{worker}.report").write_text(report)


def begin(folder: Path, worker: str = "0") -> CrashGuard:
    guard = CrashGuard(folder, worker, run_seconds=60, contained=contained)
    guard.begin()
    return guard


def test_after_two_deaths_a_version_is_not_loaded_for_a_while(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guards: list[CrashGuard] = []
    fatal = "loop thread 0x1\nFatal Python error: Aborted\n"
    for worker in ("0", "1"):
        leave(folder, worker, fatal, loading=False)
        guards.append(begin(folder, worker))
    guard = guards.pop()
    with pytest.raises(
        TransientError, match=r"has ended 2 workers \(crash: Aborted\), so it is not loaded for another"
    ):
        guard.around(ONE.digest, loading=True)
    guard.around(TWO.digest, loading=True)
    monkeypatch.setattr(deaths, "REFUSED_SECONDS", 0.0)
    guard.around(ONE.digest, loading=True)
    guard.close()
    guard = begin(folder, "1")
    assert DeathBook(folder / "deaths.json").of(ONE.digest) is not None, "an orderly end is no death"
    monkeypatch.undo()
    monkeypatch.setattr(deaths, "FORGOTTEN_SECONDS", 0.0)
    guard.around(ONE.digest, loading=True)
    guard.close()
    guards.pop().close()
    assert sorted(path.name for path in folder.iterdir()) == ["deaths.json", "deaths.lock"]


def test_a_version_that_was_running_is_not_blamed_for_a_kill(folder: Path) -> None:
    leave(folder, "0", "loop thread 0x1\n", loading=False)
    begin(folder).close()
    assert DeathBook(folder / "deaths.json").of(ONE.digest) is None
    leave(folder, "0", "loop thread 0x1\n", loading=True)
    begin(folder).close()
    found = DeathBook(folder / "deaths.json").of(ONE.digest)
    assert found is not None
    assert (found.count, found.how) == (1, "killed while it was loaded")


def test_a_damaged_book_is_said_and_refuses_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir()
    (folder / "deaths.json").write_text("{")
    guard = begin(folder)
    guard.around(ONE.digest, loading=True)
    assert "deaths.json cannot be read" in caplog.text
    guard.close()


def test_a_retried_request_is_refused_while_its_version_is_what_ended_another_worker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = begin(folder, "1")
    guard.check_retried(ONE)
    leave(folder, "0", "loop thread 0x1\n", loading=False)
    guard.check_retried(ONE)
    leave(folder, "0", "loop thread 0x1\nFatal Python error: Aborted\n", loading=False)
    with pytest.raises(TransientError, match="version 1 has just ended another worker"):
        guard.check_retried(ONE)
    guard.check_retried(TWO)
    (folder / "2.report").symlink_to(folder / "gone meanwhile")
    guard.check_retried(TWO)
    begin(folder, "0").close()
    with pytest.raises(TransientError, match="has just ended another worker"):
        guard.check_retried(ONE)
    monkeypatch.setattr(crash_guard, "RETRIED_SECONDS", 0.0)
    guard.check_retried(ONE)
    guard.close()


def test_a_run_that_takes_too_long_is_said_and_counted(folder: Path) -> None:
    guard = CrashGuard(folder, "0", run_seconds=1e-9, contained=contained)
    assert guard.overdue() is None
    guard.begin()
    assert guard.overdue() is None

    def ask() -> str | None:
        time.sleep(0.001)
        return guard.overdue()

    said = guard.around(ONE.digest, loading=False)(ask)
    assert said is not None
    assert f"a run of the version with the digest {ONE.digest[:12]} took over 0 s" in said
    assert guard.overdue() == said, "whoever asks again is told the same, and it is not counted again"
    found = DeathBook(folder / "deaths.json").of(ONE.digest)
    assert found is not None
    assert (found.count, found.how) == (1, "a run hung")
    guard.close()


def test_a_run_that_takes_too_long_is_said_though_it_cannot_be_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    guard = CrashGuard(folder, "0", run_seconds=1e-9, contained=contained)
    guard.begin()
    (folder / "deaths.lock").mkdir()  # as a full disk would, it lets nothing be written

    def ask() -> str | None:
        time.sleep(0.001)
        return guard.overdue()

    assert guard.around(ONE.digest, loading=False)(ask) is not None
    assert "deaths.json cannot be written" in caplog.text
    guard.close()


def test_a_guard_that_has_not_begun_writes_nothing(folder: Path) -> None:
    guard = CrashGuard(folder, "0", run_seconds=60, contained=contained)
    assert guard.around(ONE.digest, loading=True)(len, "abc") == 3
    guard.end_after(1)
    guard.close()
    assert not folder.exists()
