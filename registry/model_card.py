"""The model card: a version's evidence as Markdown."""

from collections.abc import Iterable, Iterator, Sequence

from registry.records.benchmark import Interval
from registry.records.model import TensorSpec, VersionDraft


def model_card(draft: VersionDraft) -> str:
    """Return what a person needs to know of a version: what it computes, how it was made, and on what evidence."""
    return "\n".join(_lines(draft)) + "\n"


def _lines(draft: VersionDraft) -> Iterator[str]:
    yield f"# {draft.model}"
    yield ""
    yield from _origin(draft)
    yield from _section("Signature", ("tensor", "datatype", "shape"), _tensors(draft))
    yield from _section(
        "Figures",
        ("metric", "estimate", "interval"),
        ((metric.name, f"{metric.interval.estimate:.5g}", _interval(metric.interval)) for metric in draft.metrics),
    )
    yield from _section(
        "Gate",
        ("rule", "verdict", "reason"),
        ((outcome.rule, outcome.verdict.value, outcome.reason) for outcome in draft.gate.outcomes),
    )
    yield from _environment(draft)


def _origin(draft: VersionDraft) -> Iterator[str]:
    steps = " > ".join(step.label for step in draft.recipe) or "none, the source as it was taken in"
    parent = f"version {draft.parent_version}" if draft.parent_version else "none, nothing was live"
    yield f"- Recipe: {steps}"
    yield f"- Runtime: {draft.runtime.label}"
    yield f"- Artifact: {draft.artifact.format}, {draft.artifact.size_bytes} bytes, sha256 `{draft.artifact.sha256}`"
    yield f"- Source: {draft.source.format}, {draft.source.size_bytes} bytes, sha256 `{draft.source.sha256}`"
    yield f"- Evaluation set: `{draft.evaluation_set}`"
    yield f"- Calibration set: {f'`{draft.calibration_set}`' if draft.calibration_set else 'none'}"
    yield f"- Champion it was gated against: {parent}"
    yield f"- Batch-invariant: {'yes' if draft.batch_invariant else 'no, requests are never batched together'}"
    yield f"- Optimization: {draft.optimization_id}"
    yield f"- Report: `{draft.report}`"


def _tensors(draft: VersionDraft) -> Iterator[tuple[str, str, str]]:
    yield from (("input " + spec.name, spec.datatype.value, _shape(spec)) for spec in draft.signature.inputs)
    yield from (("output " + spec.name, spec.datatype.value, _shape(spec)) for spec in draft.signature.outputs)


def _environment(draft: VersionDraft) -> Iterator[str]:
    machine = draft.environment
    libraries = {**machine.libraries, **draft.tool_versions}
    yield ""
    yield "## Environment of the figures"
    yield ""
    yield f"- {machine.cpu_count} x {machine.cpu_model}, {machine.memory_mib} MiB, GPU: {machine.gpu or 'none'}"
    yield f"- {machine.system}, Python {machine.python}"
    yield f"- {', '.join(f'{name} {version}' for name, version in sorted(libraries.items()))}"


def _section(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield _row(header)
    yield _row(["---"] * len(header))
    yield from (_row(row) for row in rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _interval(interval: Interval) -> str:
    return f"{interval.low:.5g} to {interval.high:.5g} ({interval.confidence:.0%})"


def _shape(spec: TensorSpec) -> str:
    return " x ".join("any" if size is None else str(size) for size in spec.shape) or "scalar"
