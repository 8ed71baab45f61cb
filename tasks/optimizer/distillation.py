"""Teach a changed network to answer as the source model does; needs inputs only, no labels.

Shape legend: B batch; K classes.
"""

import bisect
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from registry.errors import CandidateError

_TEMPERATURE = 4.0
_SMALL_NET = 500_000
"""Parameters of a network up to which one thread is quicker: threads that wait for one another on a busy machine made
the steps of the digits example ten times slower."""
_LEARNING_RATE = 1e-3
"""With half the channels gone, 3e-3 was as good on convolutional nets for the digits (.977 and .990 of the answers were
the source's), but left a transformer encoder at .93, this one at .99."""
_MOST_NOISE = 1.0
"""In standard deviations of the input. On the digits example (180 calibration samples, 30 % of the channels gone) the
accuracy after 1000 steps was .973 with noise of .05, .993 with .0 to 1.0, .986 with .0 to 2.0; .996 is the source's."""
_SHARE_OF_TIME = 0.6
"""Of the time that is left; the rest is for what comes after."""
_FEWEST_STEPS = 100
"""Below, a student has not learned: with half the channels gone, convolutional nets for the digits gave .94 and .98 of
the source's answers after 100 steps, .98 and .99 after 600."""
_LOOK_AFTER = 0.1
"""Of the steps: then the loss must have fallen, or the rest would be for nothing."""
_MUST_FALL_TO = 0.8
"""Of the loss at first. On the digits it is at .2 to .6 after a tenth of the steps."""
_NEAR = 0.2
"""A loss that need not fall; that of a student that always says the teacher's mean is at least 1."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Distillation:
    """How a student learns."""

    steps: int
    batch_size: int = 64
    seed: int = 0
    seconds: float = float("inf")
    """The most that it may take; fewer steps are planned when they take longer."""
    deadline: float = float("inf")
    """Unix time; fewer steps are planned when it comes near."""

    def seconds_from_now(self) -> float:
        """How long it may take if it starts now."""
        return min(self.seconds, _SHARE_OF_TIME * (self.deadline - time.time()))


def distill(student: nn.Module, teacher: nn.Module, inputs: Sequence[Tensor], how: Distillation) -> float:
    """Train a student on its teacher's answers and return the last loss; the same arguments give the same student.

    Both take tensors in the same order and return tuples. Each step mixes pairs of samples and adds noise of random
    strength to floating-point inputs, so that few samples go a long way.
    Afterwards the statistics of batch norms are taken anew on the samples as they are. Where time allows fewer steps
    than are wanted, as many are planned as the first ones let expect.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Beyer et al., "Knowledge distillation:
    A good teacher is patient and consistent", 2022 (mixed inputs).

    Raises:
        CandidateError: the networks return no floating-point tensor, the time is too short, or the student does not
            come nearer or did not stay finite.
    """
    torch.manual_seed(how.seed)
    started = time.time()
    student.train()
    losses: list[float] = []
    threads = torch.get_num_threads()
    if sum(parameter.numel() for parameter in student.parameters()) <= _SMALL_NET:
        torch.set_num_threads(1)
    for loss in _steps(student, teacher, inputs, how):
        losses.append(loss)
        if not math.isfinite(loss):
            raise CandidateError("the student's loss did not stay finite; a lower pruning ratio may help")
    torch.set_num_threads(threads)
    if len(losses) < how.steps:
        _log.warning("%d of %d steps of distillation in %.0f s", len(losses), how.steps, time.time() - started)
    _settle_batch_norms(student, inputs, min(how.batch_size, len(inputs[0])))
    student.eval()
    return losses[-1]


def _steps(student: nn.Module, teacher: nn.Module, inputs: Sequence[Tensor], how: Distillation) -> Iterator[float]:
    """Take steps and yield the loss of each; look early how many there can be and whether they lead anywhere."""
    random = torch.Generator().manual_seed(how.seed)
    parameters = [parameter.requires_grad_() for parameter in student.parameters() if parameter.is_floating_point()]
    optimizer = torch.optim.Adam(parameters, lr=_LEARNING_RATE)
    clock, losses = _Clock(how), list[float]()
    while clock.done < clock.planned:
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1 + math.cos(math.pi * clock.done / clock.planned)) / 2
        batch = _mixed_batch(inputs, how.batch_size, random)
        with torch.no_grad():
            answers = teacher(*batch)
        optimizer.zero_grad()
        loss = distillation_loss(student(*batch), answers)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        yield losses[-1]
        clock.tick()
        if clock.done == max(_FEWEST_STEPS // 2, int(_LOOK_AFTER * clock.planned)):
            _check_progress(losses)


class _Clock:
    """Counts steps and plans as many as the time allows, at most as many as wanted."""

    def __init__(self, how: Distillation) -> None:
        self.planned = how.steps
        self._wanted = how.steps
        self._fewest = min(how.steps, _FEWEST_STEPS)
        self._last = time.time()
        self._stop = self._last + how.seconds_from_now()
        self._took: list[float] = []
        """By every step, sorted."""

    @property
    def done(self) -> int:
        """Steps until now."""
        return len(self._took)

    def tick(self) -> None:
        """Note that a step was done.

        Raises:
            CandidateError: there is no time for enough of them to learn anything.
        """
        now = time.time()
        bisect.insort(self._took, now - self._last)
        self._last = now
        if self.done == 1:  # what is set up in the first step would make the others look slow
            return
        # The lower median: neither what is set up nor one step in which the machine stood still makes the others fewer.
        seconds = max(self._took[(self.done - 1) // 2], 1e-9)
        possible = self.done + int(min(max(self._stop - now, 0) / seconds, self._wanted))
        if possible < self._fewest and self.done < self._fewest:
            raise CandidateError(
                f"a step of distillation takes {seconds:.2g} s, so there is time for {possible} steps where "
                f"{self._fewest} are the least that a student learns from"
            )
        self.planned = min(self._wanted, possible)


def _check_progress(losses: Sequence[float]) -> None:
    """Refuse to go on where the mean loss of the last steps is near that of the first ones.

    Raises:
        CandidateError: it is.
    """
    few = max(1, len(losses) // 10)
    first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
    if last > max(_MUST_FALL_TO * first, _NEAR):
        raise CandidateError(
            f"the student does not come nearer to its source: the loss was {first:.3g} at first, "
            f"and after {len(losses)} steps it is {last:.3g}"
        )


def distillation_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return how far the student's answers are from the teacher's, a scalar, 0 when they are equal.

    Every floating-point output counts by its squared error relative to the teacher's variance; one of [B, K], K > 1,
    also by the Kullback-Leibler divergence of the two softmaxes at a temperature of 4.

    Raises:
        CandidateError: there is no floating-point output.
    """
    terms = []
    for learned, wanted in zip(student, teacher, strict=True):
        if not wanted.is_floating_point():
            continue
        terms.append(functional.mse_loss(learned, wanted) / wanted.var().clamp_min(1e-6))
        if wanted.dim() == 2 and wanted.shape[1] > 1:
            divergence = functional.kl_div(
                functional.log_softmax(learned / _TEMPERATURE, dim=1),
                functional.log_softmax(wanted / _TEMPERATURE, dim=1),
                reduction="batchmean",
                log_target=True,
            )
            terms.append(divergence * _TEMPERATURE**2)
    if not terms:
        raise CandidateError("the program returns no floating-point tensor, so a changed one cannot learn from it")
    return torch.stack(terms).sum()


def _mixed_batch(inputs: Sequence[Tensor], batch_size: int, random: torch.Generator) -> list[Tensor]:
    """Return random samples, each mixed with another one: numbers by a weighted mean, tokens place by place."""
    count = len(inputs[0])
    first, second = (torch.randint(count, (min(batch_size, count),), generator=random) for _ in range(2))
    share_B, strength_B = (torch.rand(len(first), generator=random) for _ in range(2))
    taken: dict[torch.Size, Tensor] = {}  # tokens and their mask come from the same sample
    batch = []
    for samples in inputs:
        shape = (-1, *[1] * (samples.dim() - 1))
        if not samples.is_floating_point():
            places = samples[first].shape
            if places not in taken:
                taken[places] = torch.rand(places, generator=random) < 0.5 * strength_B.reshape(shape)
            batch.append(torch.where(taken[places], samples[second], samples[first]))
            continue
        share = (0.5 + 0.5 * share_B).to(samples.dtype).reshape(shape)
        noise = torch.randn(samples[first].shape, generator=random, dtype=samples.dtype)
        noise *= _spread(samples) * (_MOST_NOISE * strength_B).to(samples.dtype).reshape(shape)
        batch.append(share * samples[first] + (1 - share) * samples[second] + noise)
    return batch


def _spread(samples: Tensor) -> Tensor:
    """Return the standard deviation per channel or column (axis 1), in a shape that multiplies samples."""
    axes = [axis for axis in range(samples.dim()) if axis != 1]
    return samples.std(dim=axes, keepdim=True, correction=0)


def _settle_batch_norms(student: nn.Module, inputs: Sequence[Tensor], batch_size: int) -> None:
    """Set the statistics of batch norms to the mean over all samples, in batches of one size."""
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for start in range(0, len(inputs[0]) - batch_size + 1 if norms else 0, batch_size):
            student(*(samples[start : start + batch_size] for samples in inputs))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
