"""What libraries do to logging in one test stays out of the others."""

import logging

import pytest


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our loggers are heard: MLflow's and Prefect's own configuration of logging silences those that there are."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith(("tasks", "serving", "registry")) and isinstance(logger, logging.Logger):
            monkeypatch.setattr(logger, "disabled", False)
