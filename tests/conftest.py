"""What every test shares: the --slow switch, and the servers that some start."""

from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.servers", "tests.integration.echo_engine"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, and only those")


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
