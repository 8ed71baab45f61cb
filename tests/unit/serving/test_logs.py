"""Logs: one JSON object a line with what is known, whatever the message holds; text where it is asked for."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from serving import logs


@pytest.fixture(autouse=True)
def loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loggers that may be set up as in an engine, and are afterwards as they were."""
    before = {name: (list(logging.getLogger(name).handlers), logging.getLogger(name).propagate) for name in logs._OURS}
    levels = {name: logging.getLogger(name).level for name in logs._OURS}
    monkeypatch.setattr(logs, "_OTHERS", ("other",))
    yield
    for name, (handlers, propagate) in before.items():
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).propagate = propagate
        logging.getLogger(name).setLevel(levels[name])
    logging.getLogger("other").handlers = []


def test_a_line_is_one_json_object_with_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("other").handlers = [logging.StreamHandler()]
    logs.write_logs("json")
    told = {"model": "m", "version": 3, "request_id": "id-1", "trace_id": None, "secret": "never"}
    logging.getLogger("serving.engine.x").warning("two\nlines of %s", "text", extra=told)
    logging.getLogger("other").error("a library's")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {
        "level": "WARNING",
        "logger": "serving.engine.x",
        "message": "two\nlines of text",
        "model": "m",
        "version": 3,
        "request_id": "id-1",
    }
    assert (second["logger"], second["message"]) == ("other", "a library's")


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_logs("json")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("registry.x").exception("it failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"].endswith("ValueError: broken\n")


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_logs("text")
    logging.getLogger("serving.x").info("loaded", extra={"model": "m"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("[INFO] [serving.x] loaded")
