"""What several integration tests share: one engine with two workers; each module has a model of its own there."""

from collections.abc import Iterator

import pytest

from tests.integration.workers import Workers, two_workers


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with two_workers(tmp_path_factory.mktemp("engine")) as running:
        yield running
