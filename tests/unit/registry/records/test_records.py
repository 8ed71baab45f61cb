"""Records: frozen, closed values that keep their invariants and their digests."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from registry.records.benchmark import Benchmark, Interval, LatencyFigures
from registry.records.gate import GateDecision, RuleOutcome, Verdict
from registry.records.model import (
    ArtifactFormat,
    Datatype,
    ModelVersion,
    PluginConfig,
    Signature,
    TensorSpec,
    VersionDraft,
)
from registry.records.optimization import Candidate, OptimizationRequest
from registry.records.release import CatalogEntry, TrafficSplit
from tests.drafts import SIGNATURE, draft, served


def rule(verdict: Verdict) -> RuleOutcome:
    return RuleOutcome(rule=f"rule {verdict}", verdict=verdict, reason="")


def test_records_are_frozen_closed_and_equal_by_content() -> None:
    plugin = PluginConfig(name="onnxruntime", knobs={"threads": 1})
    with pytest.raises(ValidationError, match="frozen"):
        plugin.name = "openvino"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra"):
        PluginConfig.model_validate({"name": "onnxruntime", "knob": {}})
    assert plugin == PluginConfig(name="onnxruntime", knobs={"threads": 1})


def test_a_digest_follows_content_not_the_order_of_fields() -> None:
    first, second = PluginConfig(name="a", knobs={"x": 1, "y": 2}), PluginConfig(name="a", knobs={"y": 2, "x": 1})
    assert first.digest == second.digest
    assert first.digest != PluginConfig(name="a", knobs={"x": 1, "y": 3}).digest
    made = draft("digits", "one")
    assert VersionDraft.model_validate_json(made.model_dump_json()).digest == made.digest


@pytest.mark.parametrize("name", ["", "Digits", "a/b", "..", "a b", "-a", "a" * 64, "größe", "a\n"])
def test_a_model_name_is_safe_in_paths_and_queries(name: str) -> None:
    with pytest.raises(ValidationError):
        draft(name, "one")


@pytest.mark.parametrize("digest", ["", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_a_digest_is_64_hex_digits(digest: str) -> None:
    with pytest.raises(ValidationError):
        OptimizationRequest(model="digits", source=digest, evaluation="0" * 64)


@pytest.mark.parametrize("values", [(1.0, 2.0, 3.0), (3.0, 1.0, 2.0), (float("nan"), 0.0, 1.0)])
def test_an_interval_holds_its_estimate(values: tuple[float, float, float]) -> None:
    estimate, low, high = values
    with pytest.raises(ValidationError):
        Interval(estimate=estimate, low=low, high=high)
    assert Interval(estimate=1.0, low=1.0, high=1.0).confidence == 0.95


@pytest.mark.parametrize("weights", [{}, {1: 50.0}, {1: 150.0, 2: -50.0}, {0: 100.0}])
def test_traffic_weights_are_percentages_of_versions(weights: dict[int, float]) -> None:
    with pytest.raises(ValidationError):
        TrafficSplit(weights=weights)
    assert TrafficSplit(weights={1: 99.9, 2: 0.1}).weights == {1: 99.9, 2: 0.1}


def test_a_catalog_entry_knows_every_version_that_it_sends_traffic_to() -> None:
    values: dict[str, Any] = {"model": "digits", "generation": 1, "versions": (served(1),)}
    assert CatalogEntry(split=TrafficSplit(weights={1: 100}), **values).versions == (served(1),)
    with pytest.raises(ValidationError, match=r"name versions \[2\]"):
        CatalogEntry(split=TrafficSplit(weights={1: 50, 2: 50}), **values)
    with pytest.raises(ValidationError, match=r"holds the versions \[1\] more than once"):
        CatalogEntry(split=None, **{**values, "versions": (served(1), served(1))})


def test_a_gate_passes_only_if_a_rule_was_asked_and_all_pass() -> None:
    assert not GateDecision().passed
    assert GateDecision(outcomes=(rule(Verdict.PASS),)).passed
    for verdict in (Verdict.FAIL, Verdict.CANNOT_TELL):
        decision = GateDecision(outcomes=(rule(Verdict.PASS), rule(verdict)))
        assert not decision.passed
        assert decision.refusals == (rule(verdict),)


def test_what_the_gate_refused_cannot_become_a_version() -> None:
    refused = draft("digits", "one").model_dump() | {"gate": GateDecision(outcomes=(rule(Verdict.FAIL),)).model_dump()}
    with pytest.raises(ValidationError, match="passed its gate"):
        VersionDraft.model_validate(refused)


def test_the_engine_gets_the_part_of_a_version_that_it_needs() -> None:
    made = draft("digits", "one")
    version = ModelVersion(version=3, created_at=datetime(2026, 1, 1, tzinfo=UTC), draft=made)
    assert (version.model, version.served.version, version.served.artifact) == ("digits", 3, made.artifact)
    assert (version.served.runtime, version.served.signature, version.served.batch_invariant) == (
        made.runtime,
        SIGNATURE,
        True,
    )


@pytest.mark.parametrize("datatype", sorted(set(Datatype) - {Datatype.BF16, Datatype.BYTES}))
def test_numbers_are_numpys(datatype: Datatype) -> None:
    assert Datatype.from_numpy_name(np.dtype(datatype.numpy_name).name) is datatype


@pytest.mark.parametrize("name", ["complex64", "bfloat16", "object"])
def test_what_is_no_number_of_numpys_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid Datatype"):
        Datatype.from_numpy_name(name)


@pytest.mark.parametrize(
    ("shapes", "batched"),
    [(((None, 4), (None, 2)), True), (((1, 4), (None, 2)), False), (((None, 4), (2,)), False), (((), (None,)), False)],
)
def test_a_signature_is_batched_if_axis_0_varies_everywhere(
    shapes: tuple[tuple[int | None, ...], tuple[int | None, ...]], batched: bool
) -> None:
    inputs, outputs = (TensorSpec(name="t", datatype=Datatype.FP32, shape=shape) for shape in shapes)
    assert Signature(inputs=(inputs,), outputs=(outputs,)).batched is batched


def test_every_format_has_a_main_file() -> None:
    assert len({artifact_format.main_file for artifact_format in ArtifactFormat}) == len(ArtifactFormat)


def test_a_candidates_label_names_steps_knobs_and_runtime() -> None:
    runtime = PluginConfig(name="openvino", knobs={"threads": 2, "precision": "f32"})
    source = Candidate(id="0" * 64, recipe=(), runtime=runtime)
    assert source.label == "source @ openvino(precision=f32,threads=2)"
    steps = (PluginConfig(name="export_onnx"), PluginConfig(name="prune_structured", knobs={"ratio": 0.5}))
    label = Candidate(id="0" * 64, recipe=steps, runtime=PluginConfig(name="onnxruntime")).label
    assert label == "export_onnx > prune_structured(ratio=0.5) @ onnxruntime"


def test_a_benchmark_answers_by_batch_size() -> None:
    one = Interval(estimate=1, low=1, high=1)
    figures = LatencyFigures(batch_size=8, calls=5, latency_p50_ms=one, latency_p99_ms=one, throughput_per_s=one)
    benchmark = Benchmark(threads=1, latency=(figures,), peak_memory_mib=1, size_bytes=1)
    assert benchmark.at_batch(8) is figures
    with pytest.raises(KeyError, match="batch size 1 was not measured"):
        benchmark.at_batch(1)


def test_each_request_has_an_id_of_its_own() -> None:
    requests = [OptimizationRequest(model="digits", source="0" * 64, evaluation="0" * 64) for _ in range(2)]
    assert requests[0].id != requests[1].id
    with pytest.raises(ValidationError):
        OptimizationRequest(id="it's", model="digits", source="0" * 64, evaluation="0" * 64)
