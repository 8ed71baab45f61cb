"""Distillation: the student comes nearer, the same way every time, within its time."""

import time

import pytest
import torch
from torch import Tensor, nn

from registry.errors import CandidateError
from tasks.optimizer.distillation import Distillation, distill, distillation_loss


class Network(nn.Module):
    """A small network whose forward returns a tuple."""

    def __init__(self, hidden: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(3, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.body(x),)


SAMPLES = torch.randn(96, 3, generator=torch.Generator().manual_seed(2))
TEACHER = Network(16, seed=1).eval()


def gap(student: nn.Module) -> float:
    with torch.no_grad():
        return distillation_loss(student(SAMPLES), TEACHER(SAMPLES)).item()


def test_the_student_comes_nearer_and_ends_in_eval_mode() -> None:
    student = Network(8, seed=3).eval()
    before = gap(student)
    distill(student, TEACHER, [SAMPLES], Distillation(steps=600, batch_size=32))
    assert gap(student) < 0.3 * before
    assert not student.training
    assert all(norm.momentum == 0.1 for norm in student.modules() if isinstance(norm, nn.BatchNorm1d))


def test_the_same_seed_gives_the_same_student_and_another_one_another() -> None:
    def weights(seed: int) -> Tensor:
        student = Network(8, seed=3)
        distill(student, TEACHER, [SAMPLES], Distillation(steps=5, seed=seed))
        return nn.utils.parameters_to_vector(student.parameters()).detach()

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_the_teacher_does_not_change() -> None:
    before = {name: value.clone() for name, value in TEACHER.state_dict().items()}
    distill(Network(8, seed=3), TEACHER, [SAMPLES], Distillation(steps=3))
    assert all(torch.equal(value, before[name]) for name, value in TEACHER.state_dict().items())


def test_too_little_time_is_told_after_two_steps() -> None:
    seen = 0

    class Counting(Network):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            nonlocal seen
            seen += 1
            return super().forward(x)

    with pytest.raises(CandidateError, match="there is time for 2 steps where 100"):
        distill(Counting(8, seed=3), TEACHER, [SAMPLES], Distillation(steps=10**9, deadline=time.time()))
    assert seen == 2


def test_fewer_steps_are_planned_where_time_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Slow(Network):
        """One that takes a second for each step, by the clock that is looked at."""

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            nonlocal now
            now += 1
            return super().forward(x)

    said: list[str] = []
    monkeypatch.setattr("tasks.optimizer.distillation._log.warning", lambda text, *values: said.append(text % values))
    monkeypatch.setattr("tasks.optimizer.distillation.time.time", lambda: now)
    student = Slow(8, seed=3)
    before = gap(student.eval())
    distill(student, TEACHER, [SAMPLES], Distillation(steps=10**9, seconds=600.0))
    assert "600 of 1000000000 steps" in said[0]
    assert gap(student) < 0.3 * before


@pytest.mark.parametrize("still", [2, 50])
def test_a_step_in_which_the_machine_stands_still_costs_no_other_steps(
    monkeypatch: pytest.MonkeyPatch, still: int
) -> None:
    now, steps = 0.0, 0

    class Interrupted(Network):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            nonlocal now, steps
            steps += self.training
            now += 30 if steps == still else 1
            return super().forward(x)

    said: list[str] = []
    monkeypatch.setattr("tasks.optimizer.distillation._log.warning", lambda text, *values: said.append(text % values))
    monkeypatch.setattr("tasks.optimizer.distillation.time.time", lambda: now)
    distill(Interrupted(8, seed=3), TEACHER, [SAMPLES], Distillation(steps=200, seconds=250.0))
    assert (steps >= 200, said) == (True, [])


def test_a_student_that_cannot_learn_is_given_up_early() -> None:
    class Stuck(Network):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (0 * super().forward(x)[0] + 5,)

    with pytest.raises(CandidateError, match=r"does not come nearer to its source.* after 50 steps"):
        distill(Stuck(8, seed=3), TEACHER, [SAMPLES], Distillation(steps=400))


def test_equal_answers_cost_nothing_and_a_shift_of_logits_does() -> None:
    answers = TEACHER(SAMPLES)[0].detach()
    assert distillation_loss([answers], [answers]).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss([answers + 1], [answers]).item() > 0.1  # softmax alone would not see it


def test_integers_alone_cannot_be_learned_from() -> None:
    with pytest.raises(CandidateError, match="no floating-point tensor"):
        distillation_loss([torch.zeros(2, 2)], [torch.zeros(2, 2, dtype=torch.int64)])


def test_a_loss_that_is_not_finite_loses_the_candidate() -> None:
    broken = Network(8, seed=3)
    with torch.no_grad():
        broken.body[0].weight.fill_(float("nan"))  # type: ignore[operator]
    with pytest.raises(CandidateError, match="finite"):
        distill(broken, TEACHER, [SAMPLES], Distillation(steps=1))


def test_tokens_are_mixed_place_by_place_and_their_mask_with_them() -> None:
    class Recording(nn.Module):
        """Keeps what it is asked; answers by the mean of the embedded tokens."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.words, self.asked = nn.Embedding(200, 4), list[tuple[Tensor, Tensor]]()

        def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
            self.asked.append((tokens, mask))
            return (self.words(tokens).mean(1),)

    tokens = torch.arange(20).reshape(-1, 1) * 10 + torch.arange(6)  # the tens tell the sample, the ones the place
    mask = (tokens // 10) % 2 == 0
    student = Recording()
    distill(student, Recording(), [tokens, mask], Distillation(steps=3, batch_size=20))
    (asked, asked_mask), *_ = student.asked
    assert torch.equal(asked % 10, torch.arange(6).expand(20, 6))
    assert torch.equal(asked_mask, (asked // 10) % 2 == 0)
    samples = [len(set(row.tolist())) for row in asked // 10]
    assert max(samples) == 2
    assert min(samples) == 1
