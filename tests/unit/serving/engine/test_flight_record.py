"""The flight record: who is in which version, readable by another process after this one is gone."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from registry.errors import CandidateError
from serving.engine import flight_record
from serving.engine.flight_record import FlightRecord, read_record
from serving.engine.infer import contained
from tests.unit.serving.engine.doubles import served

ONE, TWO = served(1), served(2)
SPAWN = multiprocessing.get_context("spawn")


def test_a_run_is_noted_while_it_lasts(tmp_path: Path) -> None:
    record = FlightRecord(contained, tmp_path / "0.record")
    started = time.monotonic_ns()
    seen = record.around(ONE.digest, loading=False)(lambda number: (record.visits(), number), 7)
    (visit,) = seen[0]
    assert (visit.digest, visit.thread, visit.loading, seen[1]) == (ONE.digest, threading.get_ident(), False, 7)
    assert started <= visit.since_ns <= time.monotonic_ns()
    assert record.visits() == ()


def test_a_run_that_fails_is_over(tmp_path: Path) -> None:
    record = FlightRecord(contained, tmp_path / "0.record")
    with pytest.raises(CandidateError):
        record.around(ONE.digest, loading=True)(os.strerror, "x")  # type: ignore[arg-type]
    assert record.visits() == ()


def test_one_that_comes_out_hides_no_other_of_the_same_digest(tmp_path: Path) -> None:
    record = FlightRecord(contained, tmp_path / "0.record")
    inside, may_go = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        assert may_go.wait(10)

    hanging = threading.Thread(target=record.around(ONE.digest, loading=False), args=(hang,))
    hanging.start()
    assert inside.wait(10)
    record.around(ONE.digest, loading=True)(int)
    record.around(ONE.digest, loading=False)(int)
    (visit,) = record.visits()
    assert (visit.digest, visit.thread, visit.loading) == (ONE.digest, hanging.ident, False)
    may_go.set()
    hanging.join()
    assert record.visits() == ()


def test_lines_are_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_record, "LINES", 3)
    record = FlightRecord(contained, tmp_path / "0.record")
    for number in range(10):
        guard = record.around(served(number + 1).digest, loading=False)
        (visit,) = guard(record.visits)
        assert visit.digest == served(number + 1).digest


def _die(path: Path) -> None:
    record = FlightRecord(contained, path)
    inner = record.around(TWO.digest, loading=True)
    record.around(ONE.digest, loading=False)(inner, os.kill, os.getpid(), signal.SIGKILL)


def test_what_was_noted_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "0.record"
    process = SPAWN.Process(target=_die, args=(path,))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert {(visit.digest, visit.loading) for visit in read_record(path)} == {(ONE.digest, False), (TWO.digest, True)}
    FlightRecord(contained, path)
    assert read_record(path) == (), "the next process begins anew"


def test_a_record_that_is_not_there_or_not_whole_says_nothing(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none") == ()
    (tmp_path / "short").write_bytes(b"\1" * 100)
    assert read_record(tmp_path / "short") == ()


def test_versions_beyond_the_lines_share_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight_record, "LINES", 2)
    monkeypatch.setattr(flight_record, "_NOTES", 2 * 64)
    monkeypatch.setattr(flight_record, "_SIZE", 2 * 64 + 2 * 16)
    record = FlightRecord(contained, tmp_path / "0.record")
    for version in (ONE, TWO, served(3)):
        (visit,) = record.around(version.digest, loading=False)(record.visits)
        assert visit.thread == threading.get_ident()
    assert record.visits() == ()
