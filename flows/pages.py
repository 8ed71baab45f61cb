"""What a person sees on the Prefect run page: the candidate table, the gate's verdicts, links."""

from prefect.artifacts import (
    acreate_image_artifact,
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_table_artifact,
)

from registry.records.gate import RuleOutcome
from registry.records.optimization import CandidateResult, OptimizationResult
from registry.records.tenant import DEFAULT_TENANT, split_name


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


async def show_search(model: str, result: OptimizationResult, control_url: str, optimization: str) -> None:
    """Put the candidate table, the plots and the link to the report on the run page.

    Args:
        model: the model's qualified name.
        result: of the search.
        control_url: of the control API.
        optimization: its id there.
    """
    where = f"optimizations/{optimization}"
    await acreate_table_artifact(
        key=f"candidates-{_key(model)}",
        table=[candidate_row(candidate) for candidate in result.candidates],
        description=f"Candidates of {model}; intervals are 95 %.",
    )
    if any(candidate.benchmark for candidate in result.candidates):
        for plot in ("latency", "front"):
            await acreate_image_artifact(
                key=f"{plot}-{_key(model)}", image_url=page_url(control_url, model, f"{where}/plots/{plot}")
            )
    await show_link(
        "report",
        model,
        page_url(control_url, model, f"{where}/report"),
        f"Report of {model}: plots, figures, environment",
    )


async def show_gate(model: str, outcomes: tuple[RuleOutcome, ...]) -> None:
    """Put the gate's verdicts on the run page."""
    rows = "\n".join(f"| {outcome.rule} | {outcome.verdict.value} | {outcome.reason} |" for outcome in outcomes)
    await acreate_markdown_artifact(
        key=f"gate-{_key(model)}", markdown=f"| rule | verdict | why |\n|---|---|---|\n{rows}\n"
    )


async def show_link(key: str, model: str, url: str, text: str) -> None:
    """Put one link on the run page."""
    await acreate_link_artifact(key=f"{key}-{_key(model)}", link=url, link_text=text)


def page_url(control_url: str, model: str, path: str) -> str:
    """Return where the operator finds a page of the control API about a model, whosever it is.

    Args:
        control_url: of the control API.
        model: by its qualified name.
        path: below ``/v1/``; ``{model}`` stands for the name that the model has for its tenant.
    """
    tenant, name = split_name(model)
    whose = "" if tenant == DEFAULT_TENANT else f"?tenant={tenant}"
    return f"{control_url}/v1/{path.format(model=name)}{whose}"


def _key(model: str) -> str:
    """Return a model's part of a key, for which Prefect takes lowercase letters, digits and dashes."""
    return model.replace("_", "-").replace(".", "--")
