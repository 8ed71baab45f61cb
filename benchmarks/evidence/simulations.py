"""What the paired tests do to candidates whose true loss is known, by simulation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.evidence.scale import Scale, least_by_chance, most_by_chance, noise
from benchmarks.goals import Goal
from registry.records.gate import PairedTest, Verdict
from tasks.gates.betting import Floats, bounded_p_value
from tasks.gates.paired import Flags, non_inferiority
from tasks.gates.rules import worst_slice
from tasks.gates.score import Judged

MARGIN, ALPHA = 0.01, 0.05
WIN_RATE = 0.005
"""Samples that a candidate gets right and the source wrong: what rounding does to a good net."""

Found = tuple[list[Goal], dict[str, Any]]


def planted_loss(scale: Scale) -> Found:
    """Candidates that lose a point net, and candidates as good as the source, beside what the test states of itself."""
    caught, excess, told = [], [], {}
    for samples in scale.sizes:
        worse = _verdicts(samples, WIN_RATE + MARGIN, WIN_RATE, scale.simulations)
        good = _verdicts(samples, WIN_RATE, WIN_RATE, scale.simulations)
        caught.append(1 - _share(worse, Verdict.PASS))
        stated = float(np.mean([test.power for test in good]))
        excess.append(_share(good, Verdict.PASS) - stated)
        told[str(samples)] = {
            "planted loss caught": caught[-1],
            "planted loss called fail": _share(worse, Verdict.FAIL),
            "good candidate passes": _share(good, Verdict.PASS),
            "power stated": stated,
        }
    stated = 1 - ALPHA
    return [
        Goal(
            name="a planted loss of 1 point is caught at the stated 95 %",
            measured=min(caught),
            relation="at least",
            goal=least_by_chance(stated, scale.simulations),
            detail=f"the lowest of {len(scale.sizes)} sizes, {scale.simulations} candidates each; .95 less chance",
        ),
        Goal(
            name="a good candidate passes as often as the power stated, less chance",
            measured=min(excess),
            relation="at least",
            goal=-(noise(scale.simulations) + POWER_SLACK),
            detail="share of passes less the mean power stated, the lowest of the sizes",
        ),
    ], {"planted loss": told}


POWER_SLACK = 0.05
"""Each test states its power from the discordance that it saw, which differs from the true one."""


def too_few() -> Found:
    """Flawless candidates on sets below the samples that are needed."""
    sizes = (20, 100, 200, 298)
    tests = [_tested(samples, 0, 0) for samples in sizes]
    right = [test.verdict is Verdict.CANNOT_TELL and test.samples_required == 299 for test in tests]
    right.append(_tested(299, 0, 0).verdict is Verdict.PASS)
    return [
        Goal(
            name="too few samples: cannot tell, and it takes 299",
            measured=float(np.mean(right)),
            relation="at least",
            goal=1,
            detail=f"without a loss, of {', '.join(map(str, sizes))} samples; 299 pass",
        )
    ], {"too few": {str(test.samples): f"{test.verdict}, {test.samples_required} needed" for test in tests}}


def level(scale: Scale) -> Found:
    """Candidates worse by just the margin that pass, with many ties and with few."""
    shares = {}
    for samples in scale.sizes:
        for win_rate in (0.0, 0.05):
            tests = _verdicts(samples, win_rate + MARGIN, win_rate, scale.simulations, seed=1)
            shares[f"{samples} samples, {win_rate:.0%} wins"] = _share(tests, Verdict.PASS)
    goal = Goal(
        name="candidates worse by just the margin that pass",
        measured=max(shares.values()),
        relation="at most",
        goal=most_by_chance(ALPHA, scale.simulations),
        detail=f"the highest of {len(shares)} kinds, {scale.simulations} each; alpha .05 and chance",
    )
    return [goal], {"false passes": shares}


def bounded_level(scale: Scale) -> Found:
    """The same for scores from 0 to 1."""
    kinds: dict[str, Callable[[np.random.Generator, int], Floats]] = {
        "rare total losses": lambda random, samples: np.where(random.random(samples) < MARGIN, -1.0, 0.0),
        "losses and wins": lambda random, samples: random.choice(
            [-1.0, 0, 1], samples, p=[0.03 + MARGIN, 0.94 - MARGIN, 0.03]
        ),
        "small noise": lambda random, samples: random.normal(-MARGIN, 0.02, samples),
    }
    samples, shares = 500, {}
    for name, draw in kinds.items():
        random = np.random.default_rng(2)
        passed = [bounded_p_value(draw(random, samples), MARGIN) <= ALPHA for _ in range(scale.simulations)]
        shares[name] = float(np.mean(passed))
    goal = Goal(
        name="the same with scores from 0 to 1",
        measured=max(shares.values()),
        relation="at most",
        goal=most_by_chance(ALPHA, scale.simulations),
        detail=f"the highest of {len(shares)} distributions of the differences, {scale.simulations} each",
    )
    return [goal], {"false passes of scores": shares}


def slices(scale: Scale) -> Found:
    """A candidate that loses 12 points on one slice of five, and one that loses just the margin everywhere."""
    names = np.repeat(["a", "b", "c", "d", "e"], [300, 300, 200, 120, 80])
    random = np.random.default_rng(3)
    refused: dict[str, list[bool]] = {"worse on one slice": [], "worse by the margin on all": []}
    named = []
    for _ in range(scale.slice_simulations):
        rates = np.where(names == "d", 0.12, 0.002)
        outcome, found = worst_slice(_losing(random.random(names.size) < rates), names, margin=MARGIN, alpha=ALPHA)
        refused["worse on one slice"].append(outcome.verdict is Verdict.FAIL)
        named.append(found.slice == "d")
        outcome, _ = worst_slice(_losing(random.random(names.size) < MARGIN), names, margin=MARGIN, alpha=ALPHA)
        refused["worse by the margin on all"].append(outcome.verdict is Verdict.FAIL)
    shares = {name: float(np.mean(found)) for name, found in refused.items()}
    return [
        Goal(
            name="a slice that loses 12 points is refused and named",
            measured=min(shares["worse on one slice"], float(np.mean(named))),
            relation="at least",
            goal=0.9,
            detail=f"120 of 1,000 samples, {scale.slice_simulations} candidates",
        ),
        Goal(
            name="candidates worse by just the margin on every slice that are refused",
            measured=shares["worse by the margin on all"],
            relation="at most",
            goal=most_by_chance(ALPHA, scale.slice_simulations),
            detail="alpha .05 and chance",
        ),
    ], {"slices": shares}


def _losing(lost: Flags) -> Judged:
    return Judged(reference=np.ones(lost.size, dtype=bool), candidate=~lost)


def _share(tests: list[PairedTest], verdict: Verdict) -> float:
    return float(np.mean([test.verdict is verdict for test in tests]))


def _verdicts(samples: int, loss_rate: float, win_rate: float, repeats: int, seed: int = 0) -> list[PairedTest]:
    """The tests of so many candidates; those of the same counts are the same."""
    rates = [loss_rate, win_rate, 1 - loss_rate - win_rate]
    drawn = np.random.default_rng([seed, samples]).multinomial(samples, rates, size=repeats)
    known = {pair: _tested(samples, *pair) for pair in {(int(losses), int(wins)) for losses, wins, _ in drawn}}
    return [known[int(losses), int(wins)] for losses, wins, _ in drawn]


def _tested(samples: int, losses: int, wins: int) -> PairedTest:
    order = np.arange(samples)
    reference = (order < losses) | (order >= losses + wins)
    return non_inferiority(reference, order >= losses, margin=MARGIN, alpha=ALPHA)
