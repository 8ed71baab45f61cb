"""What every test shares: the --slow switch, loggers that are heard, patience, and the servers that some start."""

import logging
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.servers", "tests.integration.echo_engine"]

PATIENCE_S = 60.0
"""How long HTTP clients wait where they are told nothing: httpx's five seconds are little on a busy machine."""
OURS = ("burnish", "flows", "tasks", "serving", "monitoring", "registry")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, and only those")


def pytest_configure(config: pytest.Config) -> None:
    """Made-up examples are the same in every run, and no machine is too slow for them; slow runs look for new ones."""
    slow = bool(config.getoption("--slow"))
    patient = [HealthCheck.too_slow]
    settings.register_profile("ours", deadline=None, derandomize=not slow, suppress_health_check=patient)
    settings.load_profile("ours")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = bool(config.getoption("--slow"))
    kept = [item for item in items if (item.get_closest_marker("slow") is not None) == slow]
    dropped = [item for item in items if item not in kept]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


@pytest.fixture(scope="session", autouse=True)
def _searches_learn_nothing_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a search learns stays with this run of the tests, and the user's own history changes none of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BURNISH_HISTORY", str(tmp_path_factory.mktemp("history") / "history.jsonl"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _clients_are_patient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for part in ("connect", "read", "write", "pool"):
            patch.setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, part, PATIENCE_S)
        yield


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Our loggers are heard: MLflow's, Prefect's and Alembic's configuration silences those that there are."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] in OURS and isinstance(logger, logging.Logger):
            monkeypatch.setattr(logger, "disabled", False)
            monkeypatch.setattr(logger, "propagate", True)
    levels = {name: logging.getLogger(name).level for name in OURS}
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)  # forgets, too, what every logger remembers of being silenced
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
