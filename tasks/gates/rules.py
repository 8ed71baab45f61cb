"""The questions of the gate, each a paired test on the same samples."""

import numpy as np

from registry.records.gate import PairedTest, RuleOutcome, SliceResult, Verdict
from registry.records.optimization import NumericalComparison, OptimizationConfig
from serving.runtime import Array, Arrays
from tasks.gates.paired import inferiority, non_inferiority, worse_p_value
from tasks.gates.score import Judged, judge, judge_kept, resolve_metric, score_interval
from tasks.optimizer.dataset import Dataset

FIDELITY = "fidelity"
FURTHER_OUTPUTS = "further_outputs"
WORST_SLICE = "worst_slice"
NOT_WORSE_THAN_CHAMPION = "not_worse_than_champion"


def fidelity(comparison: NumericalComparison, judged: Judged, *, margin: float, alpha: float) -> RuleOutcome:
    """Ask whether a candidate is still its source model.

    Equal within float tolerance on every sample passes at any number of samples; otherwise the paired test decides.

    Args:
        comparison: the candidate's outputs beside the source's.
        judged: where the source (reference) and the candidate are right, or their scores.
        margin: the share of samples, or of the score, that may be lost, net of wins.
        alpha: the probability of passing a candidate that is worse by the margin.
    """
    test = non_inferiority(judged.reference, judged.candidate, margin=margin, alpha=alpha)
    figures = {**_figures(test), "max_rel_difference": comparison.max_rel_difference}
    if comparison.equivalent:
        reason = (
            f"equal to the source within float tolerance on each of {test.samples} samples (largest difference "
            f"{comparison.max_rel_difference:.2g} of the output's size)"
        )
        return RuleOutcome(rule=FIDELITY, verdict=Verdict.PASS, reason=reason, figures=figures, test=test)
    return RuleOutcome(rule=FIDELITY, verdict=test.verdict, reason=_reason(test), figures=figures, test=test)


def further_outputs(
    comparison: NumericalComparison, reference: Arrays, candidate: Arrays, *, margin: float, alpha: float
) -> RuleOutcome:
    """Ask whether the outputs that the metric does not score are still the source's; all of them must be.

    Args:
        comparison: of all outputs.
        reference: the source's further outputs, by name.
        candidate: the candidate's.
        margin: the share of samples on which an output may be another.
        alpha: the probability of passing a candidate with an output that is worse by the margin.
    """
    tests = {}
    for name, theirs in reference.items():
        kept = judge_kept(theirs, candidate[name])
        tests[name] = non_inferiority(kept.reference, kept.candidate, margin=margin, alpha=alpha)
    worst = max(tests, key=lambda name: tests[name].p_value)
    test = tests[worst]
    verdict = Verdict.PASS if comparison.equivalent else test.verdict
    reason = f"the output {worst!r} is the worst of {len(tests)} that are not scored: {_reason(test)}"
    return RuleOutcome(rule=FURTHER_OUTPUTS, verdict=verdict, reason=reason, figures=_figures(test), test=test)


def worst_slice(judged: Judged, slices: Array, *, margin: float, alpha: float) -> tuple[RuleOutcome, SliceResult]:
    """Ask whether some part of the evaluation set is worse by more than the margin for certain.

    A part often has too few samples to show that it is not worse; that is said, and does not refuse. As many tests are
    made as there are slices, so each is made at its share of alpha (Bonferroni): a candidate that is worse nowhere is
    refused with a probability of at most alpha.

    Args:
        judged: of the whole evaluation set.
        slices: [samples], the part that each sample belongs to.
        margin: as of fidelity.
        alpha: of all slices together.

    Returns:
        The outcome, and the slice with the most evidence against it.
    """
    names, places = np.unique(slices, return_inverse=True)
    share = alpha / len(names)
    parts = [
        Judged(judged.reference[places == place], judged.candidate[places == place]) for place in range(len(names))
    ]
    evidence = [worse_p_value(part.reference, part.candidate, margin=margin) for part in parts]
    drops = [float(np.mean(part.candidate) - np.mean(part.reference)) for part in parts]
    place = min(range(len(names)), key=lambda index: (evidence[index], drops[index], parts[index].reference.size))
    part, name = parts[place], str(names[place])
    test = inferiority(part.reference, part.candidate, margin=margin, alpha=share)
    found = SliceResult(
        slice=name,
        score=score_interval(part.candidate),
        reference_score=float(np.mean(part.reference)),
        test=test,
    )
    failed = test.verdict is Verdict.FAIL
    reason = f"{name!r}, the worst of {len(names)} slices, {_counts(test)}, p = {test.p_value:.2g} that it is not worse"
    if test.verdict is Verdict.CANNOT_TELL:
        reason += f"; to show that it is not, it would take at least {_needed(test)} samples of it"
    outcome = RuleOutcome(
        rule=WORST_SLICE,
        verdict=Verdict.FAIL if failed else Verdict.PASS,
        reason=reason,
        figures={**_figures(test), "slices": float(len(names))},
        test=test,
    )
    return outcome, found


def not_worse_than_champion(
    evaluation_set: str, dataset: Dataset, champion: Arrays, contender: Arrays, config: OptimizationConfig
) -> tuple[RuleOutcome, ...]:
    """Ask whether a new model is not worse than the live champion on one evaluation set, and on none of its slices.

    Without labels the contender is held to the champion's answers.

    Args:
        evaluation_set: which set the samples are, for the reason: "the champion's evaluation set".
        dataset: the samples.
        champion: the champion's outputs on them, in the order of its signature; the first is scored.
        contender: the new model's.
        config: metric, margin and alpha.

    Raises:
        InputError: the metric does not suit the champion's output or the labels.
        CandidateError: the contender's output has another shape than the champion's.
    """
    # The two may name their outputs differently; a user's metric knows the new model's names.
    theirs = dict(zip(contender, champion.values(), strict=True))
    metric = resolve_metric(config.metric, theirs, dataset.labels)
    judged = judge(metric, theirs, contender, dataset.labels)
    test = non_inferiority(judged.reference, judged.candidate, margin=config.margin, alpha=config.alpha)
    outcome = RuleOutcome(
        rule=NOT_WORSE_THAN_CHAMPION,
        verdict=test.verdict,
        reason=f"on {evaluation_set}: {_reason(test)}",
        figures=_figures(test),
        test=test,
    )
    if dataset.slices is None:
        return (outcome,)
    sliced, _ = worst_slice(judged, dataset.slices, margin=config.margin, alpha=config.alpha)
    return outcome, sliced.model_copy(update={"reason": f"on {evaluation_set}: {sliced.reason}"})


def _figures(test: PairedTest) -> dict[str, float]:
    return {
        "samples": float(test.samples),
        "losses": float(test.losses),
        "wins": float(test.wins),
        "difference": test.difference.estimate,
        "p_value": test.p_value,
        "power": test.power,
    }


def _reason(test: PairedTest) -> str:
    reason = f"{_counts(test)}, p = {test.p_value:.2g}, power {test.power:.0%}"
    if test.verdict is Verdict.CANNOT_TELL:
        return f"{reason}; too few samples to tell: at least {_needed(test)} are needed"
    return reason


def _counts(test: PairedTest) -> str:
    difference = test.difference
    return (
        f"lost {test.losses} and won {test.wins} of {test.samples} samples: {100 * difference.estimate:+.1f} points "
        f"({100 * difference.confidence:.4g}% interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}), "
        f"margin {_points(100 * test.margin)}"
    )


def _needed(test: PairedTest) -> int:
    return max(test.samples_required, test.samples_for_power)


def _points(value: float) -> str:
    return f"{value:g} point" if value == 1 else f"{value:g} points"
