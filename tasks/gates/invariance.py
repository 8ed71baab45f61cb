"""The rule ``batch_invariant``: a sample's answer must not depend on the samples that share its batch.

Two causes make an answer alone differ from the answer in company. The *mates* may have a part in it: by a scale of the
whole batch, as dynamic int8 takes it, or by a statistic over the batch. Or the *size* of the batch makes a library
choose another kernel, which adds in another order and rounds otherwise. Only the first is a fault. The two are told
apart by holding the size and the place in the batch fixed and changing the mates alone: a kernel then does the same
arithmetic on the sample, in whatever precision, and the answer is the same to the last bit, well within float
tolerance. Between sizes the rounding of bfloat16 is allowed, which float tolerance would refuse.
"""

from dataclasses import dataclass

import numpy as np

from registry.records.gate import RuleOutcome, Verdict
from registry.records.model import Signature
from serving.runtime import Array, Arrays, Session
from tasks.gates.numerics import difference

RULE = "batch_invariant"

BATCH_SIZE = 8
"""Looked at whatever sizes are asked for: the engine lets requests that wait share a run."""

PROBES = 32
"""Samples whose answers are watched, for each size."""

OUTLIER_SCALE = 50.0
"""How much larger outliers are made: one of them in a batch of 8 changed the answers of dynamically quantized nets."""

SIZE_TOLERANCE = 2.0**-5
"""Of the output's size, between an answer alone and one in company: eight roundings of bfloat16 (2^-8)."""


@dataclass(frozen=True)
class _Found:
    """How far answers are from one another."""

    max_rel: float
    changed: float
    """Share of answers whose largest output is another one."""
    within_tolerance: bool


def check_batch_invariance(
    session: Session, inputs: Arrays, *, largest_batch: int = BATCH_SIZE, seed: int = 0
) -> RuleOutcome:
    """Compare answers beside different mates, at one size of the batch and at one place in it.

    Half of each batch is watched; the other half are first ordinary samples, then others, then outliers: samples whose
    float inputs are 50 times larger and whose integers are all the largest of the set. Differences beyond float
    tolerance fail, and so does any change of a classifier's largest output. Beside that, answers alone (batch of 1) may
    differ from those in company by rounding only.

    Args:
        session: the candidate.
        inputs: samples to draw from, by input, axis 0 the samples.
        largest_batch: the largest size that will be served; it is looked at beside 8.
        seed: of the draw.
    """
    if not session.signature.batched:
        reason = "the signature has no batch axis that varies, so requests never share a run"
        return RuleOutcome(rule=RULE, verdict=Verdict.PASS, reason=reason)
    outcomes = [_at_size(session, inputs, size, seed) for size in sorted({BATCH_SIZE, max(BATCH_SIZE, largest_batch)})]
    return next((one for one in outcomes if one.verdict is not Verdict.PASS), outcomes[-1])


def _at_size(session: Session, inputs: Arrays, size: int, seed: int) -> RuleOutcome:
    total, mates = len(next(iter(inputs.values()))), size // 2
    generator = np.random.default_rng(seed)
    groups = -(-PROBES // (size - mates))
    # Few samples are drawn more than once.
    rows = generator.choice(total, size=(groups, size), replace=groups * size > total)
    others = generator.choice(total, size=(groups, mates))
    found: dict[str, list[Arrays]] = {"alone": [], "ordinary": [], "others": [], "outliers": []}
    for group, strangers in zip(rows, others, strict=True):
        batches = {
            "ordinary": _take(inputs, group),
            "others": _take(inputs, np.concatenate([strangers, group[mates:]])),
            "outliers": _with_outliers(inputs, group, mates),
        }
        for company, batch in batches.items():
            found[company].append({name: output[mates:] for name, output in session.run(batch).items()})
        found["alone"].extend(session.run(_take(inputs, group[place : place + 1])) for place in range(mates, size))
    answers = {company: _joined(parts) for company, parts in found.items()}
    measured = {
        company: _found(answers["ordinary"], answers[company], session.signature)
        for company in ("others", "outliers", "alone")
    }
    return _outcome(measured, size, groups * (size - mates))


def _take(inputs: Arrays, rows: Array) -> Arrays:
    return {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_outliers(inputs: Arrays, rows: Array, mates: int) -> Arrays:
    """The named samples, the first of them made outliers; rows taken by index are a copy."""
    batch = _take(inputs, rows)
    for name, array in batch.items():
        if array.dtype.kind == "f":
            array[:mates] = OUTLIER_SCALE * array[:mates].astype(np.float64)
        else:
            array[:mates] = inputs[name].max()
    return batch


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


def _outcome(measured: dict[str, _Found], size: int, answers: int) -> RuleOutcome:
    others, outliers, alone = measured["others"], measured["outliers"], measured["alone"]
    by_mates = not (others.within_tolerance and outliers.within_tolerance)
    by_size = alone.max_rel > SIZE_TOLERANCE
    compared = f"{answers} answers in batches of {size}"
    if by_mates:
        reason = (
            f"of {compared}, {others.changed:.1%} have another top-1 among other mates and {outliers.changed:.1%} "
            f"beside outliers; the largest differences are {others.max_rel:.2g} and {outliers.max_rel:.2g} of the "
            f"output's size"
        )
    elif by_size:
        reason = (
            f"of {compared}, the mates change none, but alone they are another by up to {alone.max_rel:.2g} of the "
            f"output's size: the answer depends on how many samples share a run"
        )
    else:
        reason = (
            f"{compared} are the same among other mates and beside outliers (largest difference "
            f"{max(others.max_rel, outliers.max_rel):.2g} of the output's size; {alone.max_rel:.2g} from answers alone)"
        )
    return RuleOutcome(
        rule=RULE,
        verdict=Verdict.FAIL if by_mates or by_size else Verdict.PASS,
        reason=reason,
        figures={
            "batch_size": float(size),
            "max_difference": max(others.max_rel, outliers.max_rel),
            "max_difference_alone": alone.max_rel,
            "changed_top1": max(others.changed, outliers.changed),
            "answers": float(answers),
        },
    )
