"""The engine's log: one JSON object a line, or text for people who read it as it comes.

A line never holds what a request held: no tensors, no header but the ids.
"""

import logging
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

LogFormat = Literal["json", "text"]

FIELDS = ("model", "version", "request_id", "trace_id", "door", "status", "suppressed")
"""What a line may say besides its message; given as ``extra`` where it is known."""

_TEXT = "%(asctime)s [%(levelname)s] [%(name)s] %(message)s"
_OURS = ("serving", "registry")
_OTHERS = ("", "bentoml")
"""Loggers whose handlers BentoML has made: the root's stand for every other library."""


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what JSON does not have is written as text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = vars(record)
        line.update({name: known[name] for name in FIELDS if known.get(name) is not None})
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def write_logs(log_format: LogFormat) -> None:
    """Let our loggers write to standard error, and everybody else's handlers write in the same form."""
    formatter = JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT)
    output = logging.StreamHandler()
    output.setFormatter(formatter)
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.addHandler(output)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    for name in _OTHERS:
        for handler in logging.getLogger(name).handlers:
            handler.setFormatter(formatter)
