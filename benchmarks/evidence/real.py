"""The rules on real nets: a planted loss of accuracy, and candidates whose answers depend on the batch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.evidence.scale import Scale
from benchmarks.evidence.simulations import ALPHA, MARGIN, Found
from benchmarks.evidence.subjects import Made, Subject, encoder
from benchmarks.goals import Goal
from registry.errors import CandidateError
from registry.records.gate import Verdict
from serving.runtime import Array, Arrays
from tasks.gates.invariance import check_batch_invariance
from tasks.gates.numerics import compare
from tasks.gates.rules import fidelity
from tasks.gates.score import judge
from tasks.optimizer.evaluate import predict_all

FLOAT, INT8 = ("export_onnx",), ("export_onnx", "quantize_static_int8")
DYNAMIC = ("export_onnx", "quantize_dynamic_int8")
LARGEST_BATCH = 32


def planted_on_a_net(subject: Subject, scale: Scale) -> Found:
    """Take the answers of a net's int8 version and swap first and second class until it has lost a point net."""
    source, candidate = (_answers(subject, recipe) for recipe in (FLOAT, INT8))
    labels = subject.labels
    assert labels is not None
    name = next(iter(source))
    right = judge("top1", source, candidate, labels)
    wanted = round(MARGIN * len(labels)) - int(right.reference.sum() - right.candidate.sum())
    random = np.random.default_rng(0)
    verdicts = []
    for _ in range(scale.planted):
        lost = random.choice(np.flatnonzero(right.candidate), size=max(0, wanted), replace=False)
        damaged = {**candidate, name: _swapped(candidate[name], lost)}
        judged = judge("top1", source, damaged, labels)
        verdicts.append(fidelity(compare(source, damaged), judged, margin=MARGIN, alpha=ALPHA))
    caught = [outcome.verdict is not Verdict.PASS for outcome in verdicts]
    untouched = fidelity(compare(source, candidate), right, margin=MARGIN, alpha=ALPHA)
    return [
        Goal(
            name="a point lost by a real net is caught",
            measured=float(np.mean(caught)),
            relation="at least",
            goal=1 - ALPHA,
            detail=f"int8 digits net on {len(labels)} samples, {scale.planted} times other samples",
        )
    ], {
        "real net": {
            "planted": verdicts[-1].reason,
            "called fail": float(np.mean([outcome.verdict is Verdict.FAIL for outcome in verdicts])),
            "as it is": f"{untouched.verdict}: {untouched.reason}",
        }
    }


def invariance(subject: Subject, folder: Path) -> Found:
    """Ask two nets' candidates whether a sample's answer depends on its batch-mates."""
    told: dict[str, str] = {}
    refused: list[bool] = []
    passed: list[bool] = []
    for net in (subject, encoder(folder)):
        for made in _candidates(net):
            session = made.load()
            try:
                outcome = check_batch_invariance(session, net.inputs, largest_batch=LARGEST_BATCH)
            finally:
                session.close()
            dynamic = made.candidate.recipe[-1:] and made.candidate.recipe[-1].name == DYNAMIC[-1]
            (refused if dynamic else passed).append((outcome.verdict is Verdict.FAIL) == bool(dynamic))
            told[f"{next(iter(net.inputs))}: {made.name}"] = f"{outcome.verdict}: {outcome.reason}"
    return [
        Goal(
            name="dynamic int8 is refused for batched serving",
            measured=float(np.mean(refused)),
            relation="at least",
            goal=1,
            detail="a CNN on images and an encoder on token ids",
        ),
        Goal(
            name="float, bf16 and static int8 are not",
            measured=float(np.mean(passed)),
            relation="at least",
            goal=1,
            detail=f"{len(passed)} candidates, in batches of 8 and {LARGEST_BATCH}",
        ),
    ], {"batch invariance": told}


def _candidates(net: Subject) -> Iterator[Made]:
    asked: tuple[tuple[tuple[str, ...], str, dict[str, str]], ...] = (
        (FLOAT, "onnxruntime", {}),
        (INT8, "onnxruntime", {}),
        (DYNAMIC, "onnxruntime", {}),
        (FLOAT, "openvino", {"precision": "f32"}),
        (FLOAT, "openvino", {"precision": "bf16"}),
        (("cast_bfloat16",), "torch_export", {}),
    )
    for recipe, runtime, knobs in asked:
        made = net.make(recipe, runtime, **knobs)
        if made is not None:
            yield made


def _answers(subject: Subject, recipe: tuple[str, ...]) -> Arrays:
    made = subject.make(recipe, "onnxruntime")
    if made is None:
        raise CandidateError(f"{' > '.join(recipe)} cannot be made here")
    session = made.load()
    try:
        return predict_all(session, subject.inputs)
    finally:
        session.close()


def _swapped(scores: Array, rows: Array) -> Array:
    """The scores with the largest and the second of some rows exchanged."""
    swapped = scores.copy()
    order = np.argsort(scores.astype(np.float64)[rows], axis=1)
    first, second = order[:, -1], order[:, -2]
    swapped[rows, first], swapped[rows, second] = scores[rows, second], scores[rows, first]
    return swapped
