"""Failures: every one is counted; so many a second are logged, each once, without what the request held."""

import logging

import pytest

from serving.engine.failures import LINES_PER_SECOND, Failures


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still."""
    now = [100.0]
    monkeypatch.setattr("serving.engine.failures.time.monotonic", lambda: now[0])
    return now


def test_a_failure_is_logged_once_with_its_ids(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serving")
    seen = Failures()
    seen.add("rest", "500", "m version 1 failed: x", own_fault=True, request_id="id-1", trace_id="t-1")
    (record,) = caplog.records
    assert record.getMessage() == "a request to the rest door failed with 500: m version 1 failed: x"
    assert (record.levelname, vars(record)["request_id"], vars(record)["trace_id"]) == ("WARNING", "id-1", "t-1")
    assert seen.counts == {("rest", "500"): 1}


def test_of_a_refused_input_only_the_place_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serving")
    Failures().add("grpc", "INVALID_ARGUMENT", "inputs[0].data: expected FP32, got 'secret'", own_fault=False)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage().endswith("INVALID_ARGUMENT: inputs[0].data")) == ("INFO", True)


def test_a_flood_is_counted_whole_and_logged_in_part(caplog: pytest.LogCaptureFixture, second: list[float]) -> None:
    caplog.set_level(logging.INFO, "serving")
    seen = Failures()
    for number in range(LINES_PER_SECOND + 5):
        seen.add("rest", "400", "wrong", own_fault=False, request_id=str(number))
    assert len(caplog.records) == LINES_PER_SECOND
    second[0] += 1
    seen.add("rest", "400", "wrong", own_fault=False)
    assert len(caplog.records) == LINES_PER_SECOND + 1
    assert vars(caplog.records[-1])["suppressed"] == "5"
    assert seen.counts == {("rest", "400"): LINES_PER_SECOND + 6}
