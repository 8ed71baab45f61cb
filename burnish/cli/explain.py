"""``burnish explain``: from a request, or from an artifact, to what made the answer and who let it serve."""

from collections.abc import Iterator
from dataclasses import asdict

import click

from burnish.cli.output import json_option, write_json
from burnish.client import Client
from burnish.explanation import AnsweredRequest, Explanation, Origin, Registered, ReleaseStep

_WIDTH = 15


@click.command()
@click.argument("request_id", required=False)
@click.option("--artifact", help="Start from an artifact's sha256, or its first digits, instead of a request.")
@click.option("--model", help="Look for the request among those of this model only.")
@json_option
def explain(request_id: str | None, artifact: str | None, model: str | None, as_json: bool) -> None:
    """Say what answered the request REQUEST_ID: version, recipe, gate, evaluation set, releases, feedback.

    The id is the x-request-id of the answer. Only captured requests are known; an answer's x-burnish-artifact leads to
    the same with --artifact.
    """
    if (request_id is None) == (artifact is None):
        raise click.UsageError("name a request, or an artifact with --artifact")
    with Client() as client:
        found = client.explain_artifact(artifact) if artifact else client.explain(request_id or "", model)
    if as_json:
        write_json(asdict(found))
        return
    for line in lines(found):
        click.echo(line)


def lines(found: Explanation) -> Iterator[str]:
    """Write an explanation for people."""
    if found.request is not None:
        yield from _request(found.request)
    for origin in found.origins:
        yield from _origin(origin)


def _request(request: AnsweredRequest) -> Iterator[str]:
    yield _line("request", request.request_id)
    yield _line("answered", f"{request.at}, {request.samples} samples")
    yield _line("captured in", request.file)
    if request.in_force is not None:
        yield _line("route then", _release(request.in_force))
    told = [] if request.score is None else [f"score {request.score:g}"]
    yield _line("feedback", ", ".join([*(f"{label:g}" for label in request.labels or ()), *told]) or "none")


def _origin(origin: Origin) -> Iterator[str]:
    live = f"{origin.share:g} % of the traffic now" if origin.share else "not live now"
    yield _line("model", f"{origin.model} version {origin.version}, {live}")
    yield _line("artifact", f"{origin.artifact} ({origin.format}, {origin.size_bytes / 1024:.0f} KiB)")
    yield _line("runtime", origin.runtime)
    if origin.registered is not None:
        yield from _registered(origin.registered)
    else:
        yield _line("note", origin.registry_unavailable or "")
    for release in origin.releases:
        yield _line("release", _release(release))


def _registered(version: Registered) -> Iterator[str]:
    yield _line("recipe", " > ".join(version.recipe) or "the source itself")
    for rule in version.rules:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in rule.figures.items())
        yield _line("gate", f"{rule.rule}: {rule.verdict}: {rule.reason}" + (f" ({figures})" if figures else ""))
    against = f"version {version.parent_version}" if version.parent_version else "nothing: no version was live"
    yield _line("gated against", against)
    yield _line("evaluation set", version.evaluation_set)
    yield _line("calibration set", version.calibration_set or "none")
    yield _line("source", version.source)
    yield _line("registered", f"{version.created_at} by the optimization {version.optimization_id}")
    yield _line("report", version.report_url)


def _release(step: ReleaseStep) -> str:
    before = f", before it version {step.previous}" if step.previous else ""
    why = f": {step.reason}" if step.reason else ""
    return (
        f"{step.at} {step.action} of version {step.champion}{before}, generation {step.generation}, {step.actor}{why}"
    )


def _line(name: str, text: str) -> str:
    return f"{name:<{_WIDTH}} {text}"
