"""What the contracts of passes and runtimes share: artifacts, each made once."""

import pytest

from tests.contracts.workshop import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))
