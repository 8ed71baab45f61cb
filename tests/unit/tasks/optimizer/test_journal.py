"""The journal of a search, as a kill may leave it."""

from pathlib import Path

from registry.records.optimization import CandidateStatus
from tasks.optimizer.journal import JOURNAL_FILE, Journal
from tests.unit.tasks.optimizer.results import benchmark, candidate, ended, measured

DONE = measured(candidate("export_onnx"), benchmark(0.5), status=CandidateStatus.BUILT)
LOST = ended(candidate("compile"), CandidateStatus.FAILED, "no compiler")


def test_the_same_request_goes_on_with_what_had_ended(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "a")
    assert (journal.results, journal.seconds) == ((), 0.0)
    journal.end(DONE, 12.5)
    journal.end(LOST, 20.0)
    journal.begin(23.0)
    again = Journal(tmp_path, "a")
    assert again.results == (DONE, LOST)
    assert again.seconds == 23.0
    again.begin(30.0)
    assert Journal(tmp_path, "a").seconds == 30.0


def test_a_finished_search_or_another_request_begins_anew(tmp_path: Path) -> None:
    Journal(tmp_path, "a").end(DONE, 12.5)
    other = Journal(tmp_path, "b")
    assert other.results == ()
    other.end(DONE, 3.0)
    other.finish()
    assert Journal(tmp_path, "b").results == ()


def test_a_line_cut_off_anywhere_is_dropped_and_the_rest_stands(tmp_path: Path) -> None:
    file = tmp_path / JOURNAL_FILE
    journal = Journal(tmp_path, "a")
    journal.end(DONE, 12.5)
    whole = file.read_bytes()
    journal.end(LOST, 20.0)
    text = file.read_bytes()
    for end in range(len(whole), len(text) - 1, 97):
        file.write_bytes(text[:end])
        again = Journal(tmp_path, "a")
        assert again.results == (DONE,)
        again.end(LOST, 21.0)
        assert Journal(tmp_path, "a").results == (DONE, LOST)


def test_bytes_that_are_no_journal_are_replaced(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(b"\xff\x00 garbage")
    assert Journal(tmp_path, "a").results == ()
