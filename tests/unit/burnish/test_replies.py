from dataclasses import replace

import pytest

from burnish.replies import Candidate, Optimization, Rule
from registry.records.benchmark import Benchmark, Interval, LatencyFigures
from registry.records.model import PluginConfig
from registry.records.optimization import Candidate as CandidateRecord
from registry.records.optimization import CandidateResult, CandidateStatus
from registry.records.release import OptimizationState

REFUSAL = Rule(rule="not_worse_than_champion", verdict="cannot tell", reason="299 samples needed", figures={"n": 40.0})
PASSED = Rule(rule="fidelity", verdict="pass", reason="equal", figures={})


def optimization(**changes: object) -> Optimization:
    plain = Optimization(
        id="1" * 32,
        model="digits",
        state="queued",
        stage="",
        message="",
        version=None,
        rules=(),
        candidates_done=0,
        candidates_total=0,
        report_url=None,
        flow_run_state=None,
        flow_run_url=None,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", list(OptimizationState))
def test_states_are_those_of_the_platform(state: OptimizationState) -> None:
    found = optimization(state=state.value)
    assert found.finished != state.open
    assert found.released == (state is OptimizationState.RELEASED)
    assert found.refused == (state is OptimizationState.REFUSED)


def test_an_optimization_says_in_one_line_what_came_of_it() -> None:
    refused = optimization(state="refused", rules=(PASSED, REFUSAL), message="the gate refused it")
    assert refused.refusals == (REFUSAL,)
    assert str(refused) == "digits refused - not_worse_than_champion: 299 samples needed"
    assert str(optimization(state="released", version=3)) == "digits released as version 3"
    assert str(optimization(state="invalid", message="no file")) == "digits invalid - no file"


def test_a_candidate_has_the_label_and_the_figures_of_its_record() -> None:
    interval = Interval(estimate=2, low=1, high=3)
    figures = LatencyFigures(
        batch_size=1, calls=9, latency_p50_ms=interval, latency_p99_ms=interval, throughput_per_s=interval
    )
    record = CandidateResult(
        candidate=CandidateRecord(
            id="c" * 64,
            recipe=(PluginConfig(name="export_onnx"), PluginConfig(name="quantize", knobs={"bits": 8, "axis": None})),
            runtime=PluginConfig(name="onnxruntime"),
        ),
        status=CandidateStatus.MEASURED,
        benchmark=Benchmark(threads=1, latency=(figures,), peak_memory_mib=1, size_bytes=1),
    )
    found = Candidate.read(record.model_dump(mode="json"), winner="c" * 64)
    assert found.label == record.candidate.label
    assert found.chosen
    assert found.latency_p50_ms is not None
    assert found.latency_p50_ms.high == 3
    assert (found.score, found.size_bytes) == (None, None)
