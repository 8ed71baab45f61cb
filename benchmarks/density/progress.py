"""Progress: what a measurement does now, for whoever waits for it."""

from datetime import UTC, datetime

import click


def say(what: str) -> None:
    """Show what begins now, with the time."""
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {what}")
