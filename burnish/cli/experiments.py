"""``burnish experiment``: ask live traffic which version is better."""

from dataclasses import asdict

import click

from burnish.cli.output import json_option, write_json, write_table
from burnish.cli.release import write_release
from burnish.cli.serving import percentages
from burnish.client import Client
from burnish.experiment_calls import Experiment


@click.group()
def experiment() -> None:
    """Compare versions on live traffic by the feedback on their answers."""


@experiment.command()
@click.argument("name")
@click.argument("split", nargs=-1, required=True)
@click.option("--metric", required=True, type=click.Choice(("top1", "score")), help="By labels or by scores.")
@click.option("--confidence", default=0.95, show_default=True, type=click.FloatRange(0.5, 1, max_open=True))
@click.option("--hypothesis", default="", help="What is asked, for people.")
@json_option
def start(name: str, split: tuple[str, ...], metric: str, confidence: float, hypothesis: str, as_json: bool) -> None:
    """Split the requests of the model NAME by SPLIT, such as 1=50 2=50, the champion among them."""
    with Client() as client:
        begun = client.start_experiment(
            name, percentages(split), metric=metric, confidence=confidence, hypothesis=hypothesis
        )
    if as_json:
        write_json(asdict(begun))
    else:
        click.echo(f"{begun.id}: begun; the control is version {begun.control}")


@experiment.command()
@click.argument("name")
@click.argument("experiment_id")
@json_option
def show(name: str, experiment_id: str, as_json: bool) -> None:
    """Say what is known of the arms of EXPERIMENT_ID of the model NAME by now."""
    with Client() as client:
        found = client.experiment(name, experiment_id)
    if as_json:
        write_json(asdict(found))
        return
    rows = [
        (
            str(arm.version),
            f"{arm.percent:g} %",
            f"{arm.scored} of {arm.captured}",
            _interval(arm.mean),
            _interval(arm.difference),
            arm.verdict,
        )
        for arm in found.arms
    ]
    columns = ("version", "traffic", "scored of captured", f"mean {found.metric}", "less the control's", "verdict")
    title = f"{found.hypothesis or found.id}: {_state(found)}; together at {found.confidence:.0%}, at every look"
    write_table(columns, rows, title=title)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


@experiment.command(name="list")
@click.argument("name")
@json_option
def list_(name: str, as_json: bool) -> None:
    """List the experiments of the model NAME, newest first."""
    with Client() as client:
        found = client.experiments(name)
    if as_json:
        write_json([asdict(one) for one in found])
        return
    rows = [(one.id, one.started_at[:16], _state(one), _split(one), one.hypothesis) for one in found]
    write_table(("experiment", "started", "state", "split", "hypothesis"), rows)


@experiment.command()
@click.argument("name")
@click.argument("experiment_id")
@click.option("--promote", type=click.IntRange(min=1), help="The arm that gets all traffic; otherwise the champion.")
@click.option("--reason", default="asked for on the command line", help="Kept in the history.")
@json_option
def end(name: str, experiment_id: str, promote: int | None, reason: str, as_json: bool) -> None:
    """End EXPERIMENT_ID of the model NAME."""
    with Client() as client:
        release = client.end_experiment(name, experiment_id, promote=promote, reason=reason)
    write_release(release, f"the experiment has ended, version {release.champion} is the champion", as_json=as_json)


def _state(found: Experiment) -> str:
    if found.ended_at is None:
        return "running"
    return "ended" if found.promoted is None else f"ended, version {found.promoted} promoted"


def _split(found: Experiment) -> str:
    return " ".join(f"{version}={percent:g}" for version, percent in sorted(found.percentages.items()))


def _interval(found: tuple[float, float, float] | None) -> str:
    return "-" if found is None else "{:.3f} [{:.3f}, {:.3f}]".format(*found)
