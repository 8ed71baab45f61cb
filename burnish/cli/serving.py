"""``burnish policy`` and ``burnish shadow``: how a model is served, and which version computes beside it."""

from dataclasses import asdict, replace
from typing import Any

import click

from burnish.cli.output import json_option, write_json
from burnish.cli.release import write_release
from burnish.client import Client

_reason_option = click.option("--reason", default="asked for on the command line", help="Kept in the history.")


@click.command()
@click.argument("name")
@click.option("--p99-ms", type=click.FloatRange(min=0), help="Latency objective of an answer; 0: none.")
@click.option("--max-waiting", type=click.IntRange(min=0), help="Requests that may wait; 0: the engine's own limit.")
@click.option("--pin/--no-pin", default=None, help="Load it at start and never evict it.")
@click.option("--cache-mib", type=click.IntRange(min=0), help="Memory for answers given before; 0: none is kept.")
@click.option("--non-finite", type=click.Choice(["refuse", "pass"]), help="NaN and infinities in inputs.")
@_reason_option
@json_option
def policy(  # one parameter an option
    name: str,
    p99_ms: float | None,
    max_waiting: int | None,
    pin: bool | None,
    cache_mib: int | None,
    non_finite: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Say how the model NAME is served or, with options, change that; what is not named stays."""
    options = {
        "latency_objective_ms": p99_ms,
        "max_waiting": max_waiting,
        "pinned": pin,
        "cache_mib": cache_mib,
        "non_finite": non_finite,
    }
    wanted = {field: _value(field, value) for field, value in options.items() if value is not None}
    with Client() as client:
        generation, current = client.policy(name)
        if wanted:
            changed = replace(current, **wanted)
            release = client.set_policy(name, changed, expected_generation=generation, reason=reason)
            write_release(release, "its policy is in force", as_json=as_json)
            return
    if as_json:
        write_json({"model": name, "generation": generation, "policy": asdict(current)})
        return
    for field, value in asdict(current).items():
        click.echo(f"{field:<22}{'-' if value is None else value}")


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--percent", type=click.FloatRange(0, 100, min_open=True), default=100, help="Share of the requests.")
@click.option("--off", is_flag=True, help="End the shadow.")
@_reason_option
@json_option
def shadow(name: str, version: int | None, percent: float, off: bool, reason: str, as_json: bool) -> None:
    """Let VERSION of the model NAME compute requests again after they were answered; nobody sees its outputs."""
    if off == (version is not None):
        raise click.UsageError("name the version that shall be the shadow, or --off to end it")
    with Client() as client:
        if version is None:
            release, what = client.end_shadow(name, reason=reason), "no version is its shadow"
        else:
            release = client.set_shadow(name, version, percent, reason=reason)
            what = f"version {version} is its shadow for {percent:g} % of the requests"
    write_release(release, what, as_json=as_json)


def _value(field: str, value: Any) -> Any:  # noqa: ANN401
    """An option's value as the policy has it: 0 stands for no limit where None does."""
    return None if field in ("latency_objective_ms", "max_waiting") and value == 0 else value
