"""``burnish demo``: a stack of its own, the main job told step by step, and the stack stopped again."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from burnish.cli.output import json_option, write_json
from burnish.client import Client
from burnish.demo.screen import Screen
from burnish.demo.story import Story
from burnish.errors import InputError
from burnish.stack import lifecycle
from burnish.stack.home import bring_up
from burnish.stack.parts import stack_plan
from burnish.stack.plan import Part
from flows.settings import STACK_FILE, StackSettings

CAPTURE_EVERYTHING = 1.0
LOG_WIDTH = 150
"""Columns where the output is no terminal, such as a log."""


@click.command()
@click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), default=Path("burnish-demo"), help="The demo's folder."
)
@click.option("--keep", is_flag=True, help="Leave the stack up.")
@json_option
def demo(home: Path, *, keep: bool, as_json: bool) -> None:
    """Run the whole way once: train, push, optimize, serve, refuse, promote, roll back, watch."""
    home = home.absolute()
    settings = StackSettings(home=home, capture_rate=CAPTURE_EVERYTHING)
    lifecycle.check(stack_plan(settings))
    _make_room(home)
    screen = Screen(Console(stderr=as_json, highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH))
    screen.heading(f"Starting the stack in {home}")

    def ready(part: Part, seconds: float) -> None:
        screen.say(f"  {part.name:<8} ready after {seconds:5.1f} s  {part.url}")

    bring_up(settings, ready)
    try:
        with Client(settings.control_url, settings.gateway_url) as client:
            outcome = Story(settings, screen, client).tell()
    finally:
        if not keep:
            lifecycle.stop(home)
    if keep:
        screen.say(f"the stack stays up; stop it with: burnish down --home {home}")
    else:
        screen.say(f"the stack is stopped; what it kept is in {home}. `burnish demo --keep` leaves it up.")
    if as_json:
        write_json(asdict(outcome))


def _make_room(home: Path) -> None:
    """Begin with an empty folder; only what an earlier demo left is removed.

    Raises:
        InputError: the folder holds something else.
    """
    if not home.exists() or not any(home.iterdir()):
        return
    if not (home / STACK_FILE).is_file():
        raise InputError(f"{home} is not empty and holds no stack; name another folder with --home")
    shutil.rmtree(home)
