"""The threads that sessions of these tests run on."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from serving.engine.runs import RunThreads


@pytest.fixture
def threads() -> Iterator[RunThreads]:
    with closing(RunThreads(2)) as pool:
        yield pool
