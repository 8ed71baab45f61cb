"""What a second process does in the tests of releases; imports no more than that needs, so that it starts fast."""

import os
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from flows import releases
from registry.errors import VersionConflict
from registry.ledger.ledger import Ledger
from registry.records.change import Promote
from tests.drafts import change


def promote_together(url: str, catalog: Path, version: int, barrier: Barrier, found: "Queue[str]") -> None:
    """Promote a version when the other process does too, both expecting generation 1; tell what came of it."""
    ledger = Ledger(url)
    ledger.routes()  # connected before the start
    barrier.wait(180)
    try:
        releases.change_route(
            ledger, catalog, change(Promote(version=version), actor=str(version), expected_generation=1)
        )
    except VersionConflict:
        found.put("conflict")
    else:
        found.put("success")


def promote_in_turn(url: str, catalog: Path, versions: tuple[int, int], rounds: int) -> None:
    """Promote two versions in turn, whatever is live."""
    ledger = Ledger(url)
    for version in versions * rounds:
        releases.change_route(ledger, catalog, change(Promote(version=version), actor=str(os.getpid())))
