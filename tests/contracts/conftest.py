"""What the contracts share: artifacts of passes and runtimes, each made once, and a ledger of either kind."""

from collections.abc import Iterator

import pytest

from registry.ledger.ledger import Ledger
from tests.contracts.workshop import Workshop
from tests.drafts import served


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def digits(ledger: Ledger) -> Ledger:
    """A ledger with versions 1, 2 and 3 of the model digits, none of them live."""
    for number in (1, 2, 3):
        ledger.admit("digits", served(number))
    return ledger
