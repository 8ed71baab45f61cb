"""The two questions of the gate, each one paired test on the same samples."""

from registry.records.gate import PairedTest, RuleOutcome, Verdict
from registry.records.optimization import NumericalComparison, OptimizationConfig
from serving.runtime import Arrays
from tasks.gates.paired import non_inferiority
from tasks.gates.score import Judged, judge, resolve_metric
from tasks.optimizer.dataset import Dataset

FIDELITY = "fidelity"
NOT_WORSE_THAN_CHAMPION = "not_worse_than_champion"


def fidelity(comparison: NumericalComparison, judged: Judged, *, margin: float, alpha: float) -> RuleOutcome:
    """Ask whether a candidate is still its source model.

    Equal within float tolerance on every sample passes at any number of samples; otherwise the paired test decides.

    Args:
        comparison: the candidate's outputs beside the source's.
        judged: where the source (reference) and the candidate are right.
        margin: the share of samples that may be lost, net of wins.
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


def not_worse_than_champion(
    evaluation_set: str, dataset: Dataset, champion: Arrays, contender: Arrays, config: OptimizationConfig
) -> RuleOutcome:
    """Ask whether a new model is not worse than the live champion on one evaluation set.

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
    theirs, ours = next(iter(champion.values())), next(iter(contender.values()))
    judged = judge(resolve_metric(config.metric, theirs, dataset.labels), theirs, ours, dataset.labels)
    test = non_inferiority(judged.reference, judged.candidate, margin=config.margin, alpha=config.alpha)
    return RuleOutcome(
        rule=NOT_WORSE_THAN_CHAMPION,
        verdict=test.verdict,
        reason=f"on {evaluation_set}: {_reason(test)}",
        figures=_figures(test),
        test=test,
    )


def _figures(test: PairedTest) -> dict[str, float]:
    return {
        "samples": float(test.samples),
        "losses": float(test.losses),
        "wins": float(test.wins),
        "difference": test.difference.estimate,
        "p_value": test.p_value,
    }


def _reason(test: PairedTest) -> str:
    difference = test.difference
    counts = (
        f"lost {test.losses} and won {test.wins} of {test.samples} samples: {100 * difference.estimate:+.1f} points "
        f"({difference.confidence:.0%} interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}), "
        f"margin {_points(100 * test.margin)}, p = {test.p_value:.2g}"
    )
    if test.verdict is Verdict.CANNOT_TELL:
        return f"{counts}; too few samples to tell: at least {test.samples_required} are needed"
    return counts


def _points(value: float) -> str:
    return f"{value:g} point" if value == 1 else f"{value:g} points"
