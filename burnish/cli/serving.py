"""``burnish policy``, ``shadow`` and ``traffic``: how a model is served, and by which versions."""

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


@click.command()
@click.argument("name")
@click.argument("split", nargs=-1)
@click.option("--if-generation", "expected", type=click.IntRange(min=0), help="Refuse if the route has another by now.")
@_reason_option
@json_option
def traffic(name: str, split: tuple[str, ...], expected: int | None, reason: str, as_json: bool) -> None:
    """Say which versions answer the requests of the model NAME or, with a SPLIT such as 3=90 4=10, change that."""
    wanted = percentages(split)
    with Client() as client:
        if wanted:
            release = client.set_traffic(name, wanted, expected_generation=expected, reason=reason)
            shares = ", ".join(f"version {version} {percent:g} %" for version, percent in sorted(wanted.items()))
            write_release(release, f"the requests go to {shares}", as_json=as_json)
            return
        found = client.traffic(name)
    if as_json:
        write_json({"model": name, **asdict(found)})
        return
    for version, percent in sorted(found.percentages.items()):
        click.echo(f"version {version:<6}{percent:g} %{'  champion' if version == found.champion else ''}")


def percentages(split: tuple[str, ...]) -> dict[int, float]:
    """Read a split such as ``3=90 4=10``.

    Raises:
        UsageError: a part is none, or a version is named twice.
    """
    wanted = dict(_share(part) for part in split)
    if len(wanted) < len(split):
        raise click.UsageError("each version may be named once")
    return wanted


def _share(part: str) -> tuple[int, float]:
    version, _, percent = part.partition("=")
    try:
        return int(version), float(percent)
    except ValueError as error:
        raise click.UsageError(f"{part!r} is not a version and its percentage, such as 3=90") from error


def _value(field: str, value: Any) -> Any:  # noqa: ANN401
    """An option's value as the policy has it: 0 stands for no limit where None does."""
    return None if field in ("latency_objective_ms", "max_waiting") and value == 0 else value
