"""What libraries do to logging in one test stays out of the others."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Our loggers are heard: MLflow's and Prefect's own configuration of logging silences those that there are."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("tasks") and isinstance(logger, logging.Logger):
            monkeypatch.setattr(logger, "disabled", False)
            monkeypatch.setattr(logger, "propagate", True)
    ours = logging.getLogger("tasks")
    level = ours.level
    ours.setLevel(logging.INFO)  # forgets, too, what every logger remembers of being silenced
    yield
    ours.setLevel(level)
