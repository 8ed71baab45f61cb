"""Verdicts: what a rule found, and the decision that follows from all rules."""

from enum import StrEnum

from pydantic import Field

from registry.records.base import Record
from registry.records.benchmark import Interval


class Verdict(StrEnum):
    """The answer of one rule; only ``pass`` lets a candidate through."""

    PASS = "pass"
    FAIL = "fail"
    CANNOT_TELL = "cannot tell"


class PairedTest(Record):
    """An exact one-sided test of a candidate against a reference on the same samples.

    ``losses`` are samples that the reference got right and the candidate wrong, or on which the candidate's score is
    lower; ``wins`` the other way round.
    """

    samples: int = Field(ge=0)
    losses: int = Field(ge=0)
    wins: int = Field(ge=0)
    difference: Interval = Field(
        description="Candidate's mean score less the reference's; the share of samples where each is right or wrong."
    )
    margin: float = Field(gt=0, lt=1)
    alpha: float = Field(gt=0, lt=1)
    p_value: float = Field(ge=0, le=1)
    verdict: Verdict
    samples_required: int = Field(ge=0, description="Samples at which a candidate without losses passes.")
    power: float = Field(
        ge=0, le=1, description="Probability that a candidate as good as the reference, differing as often, passes."
    )
    samples_for_power: int = Field(ge=0, description="Samples at which this probability is about 80 %.")


class SliceResult(Record):
    """The paired test of one slice of the evaluation set: the samples that share a value of its ``slice`` column."""

    slice: str
    score: Interval = Field(description="The candidate's score on the slice.")
    reference_score: float = Field(description="The reference's score on the slice.")
    test: PairedTest


class RuleOutcome(Record):
    """What one gate rule found, with the figures that it looked at."""

    rule: str
    verdict: Verdict
    reason: str
    figures: dict[str, float] = Field(default_factory=dict)
    test: PairedTest | None = None


class GateDecision(Record):
    """The outcome of every rule that was asked; it passes if there is at least one and all pass."""

    outcomes: tuple[RuleOutcome, ...] = ()

    @property
    def passed(self) -> bool:
        """True if at least one rule was asked and every one passed."""
        return bool(self.outcomes) and all(outcome.verdict is Verdict.PASS for outcome in self.outcomes)

    @property
    def refusals(self) -> tuple[RuleOutcome, ...]:
        """The outcomes that did not pass."""
        return tuple(outcome for outcome in self.outcomes if outcome.verdict is not Verdict.PASS)
