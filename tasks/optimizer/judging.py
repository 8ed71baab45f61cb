"""Hold a built candidate against the source: how far its outputs are, how many samples it loses, what the gate says."""

from dataclasses import dataclass

from registry.records.gate import GateDecision, RuleOutcome, SliceResult
from registry.records.optimization import CandidateResult, CandidateStatus, NumericalComparison, OptimizationConfig
from serving.runtime import Arrays
from tasks.gates.metrics import BUILT_IN
from tasks.gates.numerics import compare
from tasks.gates.rules import fidelity, further_outputs, worst_slice
from tasks.gates.score import judge, resolve_metric, score_interval
from tasks.optimizer.build import Built
from tasks.optimizer.dataset import Dataset


@dataclass(frozen=True)
class Reference:
    """The source model's answers, which every candidate is held against."""

    predictions: Arrays
    """By output name, in the order of the signature: the first is the one that is scored."""
    evaluation: Dataset
    metric: str
    config: OptimizationConfig

    @classmethod
    def of(cls, built: Built, evaluation: Dataset, config: OptimizationConfig) -> "Reference":
        """Take the baseline's answers as the reference.

        Args:
            built: the baseline.
            evaluation: the samples that it answered, with their labels and slices.
            config: metric, margin and alpha.

        Raises:
            InputError: labels or outputs do not suit the metric asked for.
        """
        predictions = {spec.name: built.predictions[spec.name] for spec in built.artifact.signature.outputs}
        metric = resolve_metric(config.metric, predictions, evaluation.labels)
        return cls(predictions=predictions, evaluation=evaluation, metric=metric, config=config)

    def judge(self, result: CandidateResult, built: Built) -> CandidateResult:
        """Return the result with comparison, score and gate: ``BUILT`` if every rule passed, else ``REFUSED``.

        Raises:
            CandidateError: an output is missing, of another shape or not finite.
        """
        comparison = compare(self.predictions, built.predictions)
        judged = judge(self.metric, self.predictions, built.predictions, self.evaluation.labels)
        margin, alpha = self.config.margin, self.config.alpha
        faithful = fidelity(comparison, judged, margin=margin, alpha=alpha)
        outcomes = [faithful, *self._further(comparison, built.predictions)]
        found: SliceResult | None = None
        if self.evaluation.slices is not None:
            sliced, found = worst_slice(judged, self.evaluation.slices, margin=margin, alpha=alpha)
            outcomes.append(sliced)
        gate = GateDecision(outcomes=(*outcomes, built.invariance))
        return result.model_copy(
            update={
                "status": CandidateStatus.BUILT if gate.passed else CandidateStatus.REFUSED,
                "reason": "; ".join(f"{outcome.rule}: {outcome.reason}" for outcome in gate.refusals),
                "artifact": built.artifact.ref(),
                "signature": built.artifact.signature,
                "comparison": comparison,
                "score": score_interval(judged.candidate),
                "fidelity": faithful.test,
                "worst_slice": found,
                "batch_invariant": built.invariance.verdict == "pass",
                "gate": gate,
                "build_seconds": built.seconds,
                "cached": built.cached,
            }
        )

    def _further(self, comparison: NumericalComparison, predictions: Arrays) -> tuple[RuleOutcome, ...]:
        """The rule for outputs that no metric scores; a metric behind an entry point sees all of them."""
        _, *names = self.predictions
        if not names or self.metric not in BUILT_IN:
            return ()
        theirs = {name: self.predictions[name] for name in names}
        return (further_outputs(comparison, theirs, predictions, margin=self.config.margin, alpha=self.config.alpha),)
