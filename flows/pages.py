"""What a person sees on the Prefect run page: the candidate table, the gate's verdicts, links."""

from prefect.artifacts import (
    acreate_image_artifact,
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_table_artifact,
)

from registry.records.gate import RuleOutcome
from registry.records.optimization import CandidateResult, OptimizationResult


def candidate_row(result: CandidateResult) -> dict[str, str]:
    """One candidate as a row for people."""
    figures = result.benchmark.latency[0] if result.benchmark else None
    p50 = figures.latency_p50_ms if figures else None
    return {
        "candidate": result.candidate.label,
        "status": result.status.value,
        "p50 ms": f"{p50.estimate:.3f} ({p50.low:.3f} to {p50.high:.3f})" if p50 else "",
        "score": f"{result.score.estimate:.4f}" if result.score else "",
        "size KiB": f"{result.artifact.size_bytes / 1024:.0f}" if result.artifact else "",
        "reason": result.reason,
    }


async def show_search(model: str, result: OptimizationResult, url: str) -> None:
    """Put the candidate table, the plots and the link to the report on the run page.

    Args:
        model: the model's name.
        result: of the search.
        url: of the optimization in the control API.
    """
    await acreate_table_artifact(
        key=f"candidates-{_key(model)}",
        table=[candidate_row(candidate) for candidate in result.candidates],
        description=f"Candidates of {model}; intervals are 95 %.",
    )
    if any(candidate.benchmark for candidate in result.candidates):
        for plot in ("latency", "front"):
            await acreate_image_artifact(key=f"{plot}-{_key(model)}", image_url=f"{url}/plots/{plot}")
    await show_link("report", model, f"{url}/report", f"Report of {model}: plots, figures, environment")


async def show_gate(model: str, outcomes: tuple[RuleOutcome, ...]) -> None:
    """Put the gate's verdicts on the run page."""
    rows = "\n".join(f"| {outcome.rule} | {outcome.verdict.value} | {outcome.reason} |" for outcome in outcomes)
    await acreate_markdown_artifact(
        key=f"gate-{_key(model)}", markdown=f"| rule | verdict | why |\n|---|---|---|\n{rows}\n"
    )


async def show_link(key: str, model: str, url: str, text: str) -> None:
    """Put one link on the run page."""
    await acreate_link_artifact(key=f"{key}-{_key(model)}", link=url, link_text=text)


def _key(model: str) -> str:
    return model.replace("_", "-")
