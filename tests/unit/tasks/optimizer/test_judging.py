"""A built candidate held against the source: which rules are asked, and what the result keeps of them."""

from pathlib import Path

import numpy as np
import pytest

from registry.errors import InputError
from registry.records.gate import RuleOutcome, Verdict
from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from registry.records.optimization import CandidateResult, CandidateStatus, OptimizationConfig
from serving.runtime import Array, Arrays
from tasks.optimizer.base import Artifact
from tasks.optimizer.build import Built
from tasks.optimizer.dataset import Dataset
from tasks.optimizer.judging import Reference
from tests.unit.tasks.optimizer.results import candidate

SAMPLES = 600
GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.normal(size=(SAMPLES, 4)).astype(np.float32)
BOXES = GENERATOR.normal(size=(SAMPLES, 2)).astype(np.float32)
SLICES = np.repeat(["day", "night"], [560, 40])
CONFIG = OptimizationConfig()
PASSED = RuleOutcome(rule="batch_invariant", verdict=Verdict.PASS, reason="the same")


def specs(*names: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=name, datatype=Datatype.FP32, shape=(None, 4)) for name in names)


def built(folder: Path, predictions: Arrays, *outputs: str) -> Built:
    (folder / "model.onnx").write_bytes(b"")
    artifact = Artifact(folder, ArtifactFormat.ONNX, Signature(inputs=specs("x"), outputs=specs(*outputs)))
    return Built(artifact=artifact, predictions=predictions, invariance=PASSED, seconds=1.0, cached=False)


def judged(folder: Path, reference: Arrays, other: Arrays, slices: Array | None = None) -> CandidateResult:
    outputs = tuple(reference)
    dataset = Dataset({"x": np.zeros((SAMPLES, 1))}, None, slices)
    source = Reference.of(built(folder, reference, *outputs), dataset, CONFIG)
    waiting = CandidateResult(candidate=candidate("export_onnx"), status=CandidateStatus.PENDING)
    return source.judge(waiting, built(folder, other, *outputs))


def rules(result: CandidateResult) -> dict[str, Verdict]:
    return {outcome.rule: outcome.verdict for outcome in result.gate.outcomes}


def test_one_output_without_slices_is_asked_two_questions(tmp_path: Path) -> None:
    result = judged(tmp_path, {"y": SCORES}, {"y": SCORES})
    assert rules(result) == {"fidelity": "pass", "batch_invariant": "pass"}
    assert (result.status, result.worst_slice) == (CandidateStatus.BUILT, None)


def test_a_slice_that_is_worse_for_certain_refuses_a_good_candidate(tmp_path: Path) -> None:
    damaged = SCORES.copy()
    damaged[560:568] = -damaged[560:568]
    result = judged(tmp_path, {"y": SCORES}, {"y": damaged}, SLICES)
    assert rules(result)["worst_slice"] is Verdict.FAIL
    assert result.status is CandidateStatus.REFUSED and "worst_slice: 'night', the worst of 2 slices" in result.reason
    assert result.worst_slice is not None
    assert (result.worst_slice.slice, result.worst_slice.test.losses) == ("night", 8)
    assert result.worst_slice.score.estimate == pytest.approx(0.8)


def test_a_further_output_that_is_another_refuses(tmp_path: Path) -> None:
    reference: Arrays = {"y": SCORES, "boxes": BOXES}
    assert rules(judged(tmp_path, reference, {"y": SCORES, "boxes": BOXES + 0.01}))["further_outputs"] is Verdict.PASS
    result = judged(tmp_path, reference, {"y": SCORES, "boxes": -BOXES})
    assert rules(result) == {"fidelity": "pass", "further_outputs": "fail", "batch_invariant": "pass"}
    assert "further_outputs: the output 'boxes' is the worst of 1 that are not scored" in result.reason


def test_the_first_output_of_the_signature_is_scored_whatever_order_a_runtime_answers_in(tmp_path: Path) -> None:
    dataset = Dataset({"x": np.zeros((SAMPLES, 1))}, np.argmax(SCORES, axis=1))
    source = Reference.of(built(tmp_path, {"boxes": BOXES, "y": SCORES}, "y", "boxes"), dataset, CONFIG)
    assert (source.metric, next(iter(source.predictions))) == ("top1", "y")


def test_an_unknown_metric_is_an_input_error(tmp_path: Path) -> None:
    config = OptimizationConfig(metric="no_such_metric")
    with pytest.raises(InputError, match="there is no metric 'no_such_metric'"):
        Reference.of(built(tmp_path, {"y": SCORES}, "y"), Dataset({"x": np.zeros((SAMPLES, 1))}), config)
