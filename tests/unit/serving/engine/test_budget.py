"""The budget: nothing is charged beyond it, and what the process really holds lowers what may be charged."""

from serving.engine.budget import Budget, Cost, at_least
from serving.engine.experience import Experience
from tests.unit.serving.engine.doubles import served, sized

MIB = 2**20


class Process:
    def __init__(self) -> None:
        self.resident = 100 * MIB

    def __call__(self) -> int:
        return self.resident


def test_what_is_reserved_and_what_is_held_both_count() -> None:
    budget = Budget((10 * MIB, 8), Process(), 0)
    budget.charge((4 * MIB, 2))
    budget.reserve((4 * MIB, 2))
    assert not budget.lacks((2 * MIB, 0), (0, 0))
    assert budget.lacks((3 * MIB, 0), (0, 0))
    assert not budget.lacks((3 * MIB, 0), (MIB, 0))
    assert budget.lacks((0, 5), (0, 0)), "threads are bounded as well"
    budget.settle((4 * MIB, 2))
    budget.refund((4 * MIB, 2))
    assert not budget.lacks((10 * MIB, 8), (0, 0))


def test_each_gpu_is_a_bound_of_its_own() -> None:
    budget = Budget((10 * MIB, 8, 5 * MIB, 5 * MIB), Process(), 0)
    budget.charge((0, 0, 4 * MIB, 0))
    assert budget.lacks((0, 0, 2 * MIB, 0), (0, 0, 0, 0))
    assert not budget.lacks((0, 0, 0, 5 * MIB), (0, 0, 0, 0))
    assert budget.never_fits((0, 0, 0, 6 * MIB), (0, 0, 0, 0)) == (
        "it needs about 6.0 MiB of memory of GPU 1, and this worker may hold 5.0 MiB"
    )


def test_near_the_bound_no_more_is_charged_and_growth_lowers_the_ceiling() -> None:
    process = Process()
    budget = Budget((80 * MIB, 8), process, 20 * MIB)
    budget.charge((70 * MIB, 0))
    process.resident += 85 * MIB
    assert not budget.observe(), "a quarter of what is kept free of sessions is for what does not grow"
    assert budget.ceiling == 80 * MIB
    process.resident += 6 * MIB
    assert budget.observe()
    assert budget.ceiling == 64 * MIB, "less by what it grew beyond the mark"
    assert budget.observe()
    assert budget.ceiling == 64 * MIB, "freed memory that cannot go back is used again: only growth counts"
    process.resident -= 20 * MIB
    assert not budget.observe()
    assert budget.ceiling == int(64.8 * MIB)


def test_what_sessions_account_for_never_lowers_the_ceiling() -> None:
    process = Process()
    budget = Budget((100 * MIB, 8), process, 0)
    budget.charge((100 * MIB, 0))
    process.resident += 100 * MIB
    budget.observe()
    assert budget.ceiling == 100 * MIB
    assert budget.unaccounted_bytes == 0


def test_a_library_is_no_models() -> None:
    process = Process()
    budget = Budget((100 * MIB, 8), process, 0)
    process.resident += 30 * MIB
    assert budget.process_bytes == budget.unaccounted_bytes == 30 * MIB
    budget.set_apart(30 * MIB)
    assert budget.process_bytes == 0


def test_the_peak_of_a_load_is_what_is_reserved() -> None:
    assert Cost((5, 1), loading=9).at_peak == (9, 1)
    assert Cost((5, 1), loading=2).at_peak == (5, 1)
    assert at_least((5, 1), (3, 4)) == (5, 4)


def test_a_load_is_expected_to_cost_what_loads_alike_did() -> None:
    experience = Experience((100 * MIB, 8))
    first = served(1)
    guess = experience.expected(first)
    assert guess.held[0] > first.artifact.size_bytes
    assert not experience.sure(first)
    for _ in range(8):
        experience.learn(first, Cost((3 * MIB, 2), loading=4 * MIB, opening_s=0.5))
    assert experience.expected(served(2)) == Cost((3 * MIB, 2), loading=4 * MIB, opening_s=0.5)
    assert experience.sure(first)
    experience.learn_work(first, 0.25)
    assert experience.expected(served(2)) == Cost((3 * MIB, 2), loading=4 * MIB, opening_s=0.25), "the quickest counts"
    experience.learn_work(first, 0.75)
    assert experience.expected(served(2)).opening_s == 0.375, "until others take longer"


def test_quick_is_what_one_thread_opens_in_a_moment() -> None:
    assert Cost((MIB, 0), opening_s=0.001).quick
    assert not Cost((MIB, 0)).quick
    assert not Cost((MIB, 0), opening_s=0.01).quick
    assert not Cost((MIB, 1), opening_s=0.001).quick
    assert not Cost((MIB, 0, 1), opening_s=0.001).quick
    assert not Cost((5 * MIB, 0), opening_s=0.001).quick


def test_a_guess_never_refuses_what_may_fit() -> None:
    big = sized(served(1), 80 * MIB)
    assert Experience((100 * MIB, 8)).expected(big).held[0] == 100 * MIB
