"""Candidates and results as a search would give them."""

import random

from registry.digest import json_digest
from registry.records.benchmark import Benchmark, Environment, Interval, LatencyFigures
from registry.records.gate import GateDecision, RuleOutcome, Verdict
from registry.records.model import ArtifactFormat, ArtifactRef, PluginConfig
from registry.records.optimization import (
    Candidate,
    CandidateResult,
    CandidateStatus,
    LayerSensitivity,
    NumericalComparison,
    OptimizationConfig,
    OptimizationResult,
    Sensitivity,
)

PASSED = GateDecision(outcomes=(RuleOutcome(rule="fidelity", verdict=Verdict.PASS, reason="equal to the source"),))


def around(value: float, noise: float) -> Interval:
    """An interval of +- a share of its estimate."""
    return Interval(estimate=value, low=value * (1 - noise), high=value * (1 + noise))


def benchmark(
    p50_ms: float, *, size: int = 100_000, memory: float = 10.0, noise: float = 0.02, calls: int = 500
) -> Benchmark:
    """Figures at batch 1 and 8: p99 twice p50, a batch of 8 four times as long as a single sample."""
    latency = tuple(
        LatencyFigures(
            batch_size=batch,
            calls=calls,
            latency_p50_ms=around(factor * p50_ms, noise),
            latency_p99_ms=around(2 * factor * p50_ms, 4 * noise),
            throughput_per_s=around(1000 * batch / (factor * p50_ms), noise),
        )
        for batch, factor in ((1, 1), (8, 4))
    )
    return Benchmark(threads=1, latency=latency, peak_memory_mib=memory, size_bytes=size)


def candidate(*steps: str, runtime: str = "onnxruntime", **knobs: str | int) -> Candidate:
    """A recipe; knobs are those of the runtime."""
    recipe = tuple(PluginConfig(name=step) for step in steps)
    config = PluginConfig(name=runtime, knobs=dict(knobs))
    return Candidate(id=json_digest([*steps, runtime, knobs]), recipe=recipe, runtime=config)


def measured(one: Candidate, figures: Benchmark, score: float = 0.97, **fields: object) -> CandidateResult:
    """A candidate that went all the way."""
    values: dict[str, object] = {
        "candidate": one,
        "status": CandidateStatus.MEASURED,
        "artifact": ArtifactRef(sha256=one.id, format=ArtifactFormat.ONNX, size_bytes=figures.size_bytes),
        "folder": f"candidates/{one.id[:12]}",
        "score": Interval(estimate=score, low=score - 0.01, high=min(1.0, score + 0.01)),
        "comparison": NumericalComparison(
            output="scores", sample=17, max_abs_difference=0.03, max_rel_difference=0.004, equivalent=False
        ),
        "gate": PASSED,
        "benchmark": figures,
        "build_seconds": 3.2,
    }
    return CandidateResult.model_validate(values | fields)


def refused(one: Candidate, rule: str, reason: str, verdict: Verdict = Verdict.FAIL) -> CandidateResult:
    """A candidate that its gate refused."""
    gate = GateDecision(outcomes=(RuleOutcome(rule=rule, verdict=verdict, reason=reason),))
    score = Interval(estimate=0.92, low=0.9, high=0.94)
    return CandidateResult(
        candidate=one, status=CandidateStatus.REFUSED, gate=gate, score=score, reason=f"{rule}: {reason}"
    )


def ended(one: Candidate, status: CandidateStatus, reason: str) -> CandidateResult:
    """A candidate that never came to its gate."""
    return CandidateResult(candidate=one, status=status, reason=reason)


def result(*candidates: CandidateResult, winner: CandidateResult | None) -> OptimizationResult:
    """The outcome of a search on the digits."""
    return OptimizationResult(
        source=ArtifactRef(sha256="a" * 64, format=ArtifactFormat.EXPORTED_PROGRAM, size_bytes=310_000),
        evaluation_set="b" * 64,
        calibration_set="c" * 64,
        config=OptimizationConfig(),
        environment=Environment(
            cpu_model="AMD EPYC",
            cpu_count=2,
            cpu_flags=("avx2", "avx512_bf16", "avx512_vnni"),
            memory_mib=24_105,
            system="Linux 6.1 x86_64",
            python="3.11.7",
            libraries={"onnxruntime": "1.31.1", "torch": "2.13.0"},
        ),
        metric="top1",
        samples=898,
        candidates=candidates,
        winner=winner.candidate.id if winner else None,
        seconds=221.0,
    )


def full_result() -> OptimizationResult:
    """A search with every kind of ending."""
    winner = measured(
        candidate("export_onnx", "quantize_static_int8"), benchmark(0.053, size=92_000), 0.971, on_front=True
    )
    baseline = measured(
        candidate(runtime="torch_export"), benchmark(0.88, size=310_000, memory=96), 0.972, baseline=True, on_front=True
    )
    return result(
        baseline,
        measured(candidate("export_onnx"), benchmark(0.094, size=305_000), 0.972, on_front=True),
        winner,
        measured(
            candidate("export_onnx", runtime="openvino", precision="f32"),
            benchmark(0.11, size=306_000, noise=0.08),
            0.972,
        ),
        measured(
            candidate("export_onnx", runtime="openvino", precision="bf16"),
            benchmark(0.10, size=306_000, calls=120),
            0.970,
        ),
        refused(
            candidate("export_onnx", "quantize_dynamic_int8"),
            "batch_invariant",
            "of 70 answers alone and in batches of 8, 4.3% have another top-1 beside one outlier",
        ),
        refused(
            candidate("prune_structured", "export_onnx"),
            "fidelity",
            "lost 41 and won 3 of 898 samples: -4.2 points (90% interval -5.6 to -3.1), margin 1 point, p = 1",
        ),
        refused(
            candidate("quantize_modelopt", runtime="openvino"),
            "fidelity",
            "too few samples to tell",
            Verdict.CANNOT_TELL,
        ),
        ended(
            candidate("compile_aot", runtime="aot_inductor"),
            CandidateStatus.FAILED,
            "took longer than 180 s and was killed",
        ),
        ended(
            candidate(runtime="tensorrt"),
            CandidateStatus.SKIPPED,
            "the runtime 'tensorrt' cannot run here: no GPU <b>&",
        ),
        winner=winner,
    )


def layers(count: int) -> Sensitivity:
    """A sensitivity whose costliest layer costs a million times as much as the last."""
    found = [
        LayerSensitivity(
            layer=f"encoder.layers.{place}.self_attn.out_proj",
            operator="Linear",
            error=0.2 * 10 ** (-6 * place / count),
        )
        for place in range(count)
    ]
    return Sensitivity(layers=tuple(found), samples=128, seconds=14.2)


def crowded_result() -> OptimizationResult:
    """A search with more than sixty candidates of every ending, many of them close to one another."""
    generator = random.Random(3)
    repair = PluginConfig(
        name="quantize_static_int8", knobs={"excluded_layers": ("encoder.layers.0.self_attn.out_proj",)}
    )
    winning = Candidate(id="d" * 64, recipe=(repair,), runtime=PluginConfig(name="onnxruntime"))
    winner = measured(
        winning, benchmark(0.05, size=92_000), 0.971, on_front=True, repairs="e" * 64, cost_per_million=0.7
    )
    plain_ones = full_result().candidates[:2]
    found = [winner, *(one.model_copy(update={"cost_per_million": 1.4}) for one in plain_ones)]
    for number in range(34):
        one = candidate(
            "export_onnx", "quantize_static_int8", samples=number, runtime=("onnxruntime", "openvino")[number % 2]
        )
        figures = benchmark(0.055 + 0.02 * generator.random(), size=90_000 + 900 * number)
        found.append(
            measured(one, figures, 0.968 + 0.004 * generator.random(), on_front=number % 9 == 0, cost_per_million=0.8)
        )
    for number in range(12):
        rule = ("fidelity", "fidelity", "batch_invariant")[number % 3]
        found.append(
            refused(candidate("export_onnx", "quantize_dynamic_int8", samples=number), rule, f"lost {number} of 898")
        )
    for number in range(8):
        found.append(
            ended(candidate("compile", level=number), CandidateStatus.FAILED, "took longer than 180 s and was killed")
        )
        found.append(
            ended(candidate(runtime="tensorrt", level=number), CandidateStatus.SKIPPED, "there is no GPU here")
        )
    plain = result(*found, winner=winner)
    priced = plain.config.model_copy(update={"price_per_core_hour": 0.05})
    return plain.model_copy(update={"config": priced, "sensitivity": layers(31), "ended": "The space was exhausted."})
