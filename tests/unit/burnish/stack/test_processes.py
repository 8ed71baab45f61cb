import psutil

from burnish.stack.plan import ProcessId
from burnish.stack.processes import find, identify


def test_a_process_is_found_by_its_number_and_its_start() -> None:
    here = psutil.Process()
    found = find(identify(here))
    assert found is not None
    assert found.pid == here.pid


def test_another_process_with_the_same_number_is_not_it() -> None:
    here = identify(psutil.Process())
    assert find(here.model_copy(update={"started": here.started - 60})) is None


def test_a_number_that_nothing_has_is_not_found() -> None:
    free = max(psutil.pids()) + 1_000_000
    assert find(ProcessId(pid=free, started=0)) is None
