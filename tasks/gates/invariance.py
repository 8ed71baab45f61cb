"""The rule ``batch_invariant``: a sample's answer must not depend on the samples that share its batch."""

from dataclasses import dataclass

import numpy as np

from registry.records.gate import RuleOutcome, Verdict
from registry.records.model import Signature
from serving.runtime import Array, Arrays, Session
from tasks.gates.numerics import difference

RULE = "batch_invariant"

PROBES = 64
"""Samples whose answers are watched."""

OUTLIER_SCALE = 50.0
"""How much larger one mate is made: one such mate in a batch of 8 changed the answers of dynamically quantized nets."""


@dataclass(frozen=True)
class _Found:
    """How far answers in company are from answers alone."""

    max_rel: float
    changed: float
    """Share of answers whose largest output is another one."""
    within_tolerance: bool


def check_batch_invariance(session: Session, inputs: Arrays, *, batch_size: int = 8, seed: int = 0) -> RuleOutcome:
    """Compare answers alone (batch of 1) with answers among ordinary mates and beside one outlier.

    An outlier is another sample with its float inputs made 50 times larger. Differences within float tolerance pass;
    larger ones, and any change of a classifier's largest output, fail.

    Args:
        session: the candidate.
        inputs: samples to draw from, by input, axis 0 the samples.
        batch_size: samples in company.
        seed: of the draw.
    """
    if not session.signature.batched:
        reason = "the signature has no batch axis that varies, so requests never share a run"
        return RuleOutcome(rule=RULE, verdict=Verdict.PASS, reason=reason)
    total = len(next(iter(inputs.values())))
    generator = np.random.default_rng(seed)
    # Whole batches of probes beside one mate; few samples are drawn more than once.
    groups = -(-min(PROBES, total) // (batch_size - 1))
    rows = generator.choice(total, size=(groups, batch_size), replace=groups * batch_size > total)
    alone = {int(row): session.run(_take(inputs, np.array([row]))) for row in np.unique(rows[:, 1:])}
    expected = _joined([alone[int(row)] for row in rows[:, 1:].ravel()])
    ordinary = _found(expected, _in_company(session, inputs, rows, 1.0), session.signature)
    outlier = _found(expected, _in_company(session, inputs, rows, OUTLIER_SCALE), session.signature)
    return _outcome(ordinary, outlier, batch_size, rows[:, 1:].size)


def _take(inputs: Arrays, rows: Array) -> Arrays:
    return {name: array[rows] for name, array in inputs.items()}


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _in_company(session: Session, inputs: Arrays, rows: Array, mate_scale: float) -> Arrays:
    """Answers of all but the first sample of each batch, the first being the mate that is scaled."""
    answers = []
    for group in rows:
        batch = _take(inputs, group)
        for array in batch.values():
            if array.dtype.kind == "f":
                # Rows taken by index are a copy: the caller's samples stay as they are.
                array[0] *= mate_scale
        answers.append({name: output[1:] for name, output in session.run(batch).items()})
    return _joined(answers)


def _found(expected: Arrays, found: Arrays, signature: Signature) -> _Found:
    measured = [difference(expected[spec.name], found[spec.name]) for spec in signature.outputs]
    first, ours = expected[signature.outputs[0].name], found[signature.outputs[0].name]
    changed = 0.0
    if first.ndim == 2 and first.shape[1] >= 2:
        changed = float(np.mean(np.argmax(first, axis=1) != np.argmax(ours, axis=1)))
    return _Found(
        max_rel=max(each.max_rel for each in measured),
        changed=changed,
        within_tolerance=changed == 0 and all(each.within_tolerance for each in measured),
    )


def _outcome(ordinary: _Found, outlier: _Found, batch_size: int, answers: int) -> RuleOutcome:
    passed = ordinary.within_tolerance and outlier.within_tolerance
    compared = f"{answers} answers alone and in batches of {batch_size}"
    if passed:
        reason = f"{compared} agree within float tolerance, also beside an outlier"
    else:
        reason = (
            f"of {compared}, {ordinary.changed:.1%} have another top-1 among ordinary mates and {outlier.changed:.1%} "
            f"beside one outlier; the largest differences are {ordinary.max_rel:.2g} and {outlier.max_rel:.2g} of the "
            f"output's size"
        )
    return RuleOutcome(
        rule=RULE,
        verdict=Verdict.PASS if passed else Verdict.FAIL,
        reason=reason,
        figures={
            "max_difference": max(ordinary.max_rel, outlier.max_rel),
            "changed_top1": max(ordinary.changed, outlier.changed),
            "answers": float(answers),
        },
    )
