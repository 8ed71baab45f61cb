"""Hold a built candidate against the source: how far its outputs are, how many samples it loses, what the gate says."""

from dataclasses import dataclass

from registry.records.gate import GateDecision
from registry.records.optimization import CandidateResult, CandidateStatus, MetricKind, OptimizationConfig
from serving.runtime import Array, Arrays
from tasks.gates.numerics import compare
from tasks.gates.rules import fidelity
from tasks.gates.score import judge, resolve_metric, score_interval, scored_output
from tasks.optimizer.build import Built


@dataclass(frozen=True)
class Reference:
    """The source model's answers, which every candidate is held against."""

    predictions: Arrays
    labels: Array | None
    metric: MetricKind
    output: str
    """The output that is scored."""
    config: OptimizationConfig

    @classmethod
    def of(cls, built: Built, labels: Array | None, config: OptimizationConfig) -> "Reference":
        """Take the baseline's answers as the reference.

        Raises:
            InputError: labels or outputs do not suit the metric asked for.
        """
        output = scored_output(built.artifact.signature)
        metric = resolve_metric(config.metric, built.predictions[output], labels)
        return cls(predictions=built.predictions, labels=labels, metric=metric, output=output, config=config)

    def judge(self, result: CandidateResult, built: Built) -> CandidateResult:
        """Return the result with comparison, score and gate: ``BUILT`` if every rule passed, else ``REFUSED``.

        Raises:
            CandidateError: an output is missing, of another shape or not finite.
        """
        comparison = compare(self.predictions, built.predictions)
        judged = judge(self.metric, self.predictions[self.output], built.predictions[self.output], self.labels)
        faithful = fidelity(comparison, judged, margin=self.config.margin, alpha=self.config.alpha)
        gate = GateDecision(outcomes=(faithful, built.invariance))
        return result.model_copy(
            update={
                "status": CandidateStatus.BUILT if gate.passed else CandidateStatus.REFUSED,
                "reason": "; ".join(f"{outcome.rule}: {outcome.reason}" for outcome in gate.refusals),
                "artifact": built.artifact.ref(),
                "signature": built.artifact.signature,
                "comparison": comparison,
                "score": score_interval(judged.candidate),
                "fidelity": faithful.test,
                "batch_invariant": built.invariance.verdict == "pass",
                "gate": gate,
                "build_seconds": built.seconds,
                "cached": built.cached,
            }
        )
