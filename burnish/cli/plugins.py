"""``burnish passes`` and ``burnish runtimes``: list the plug-ins, which imports none of them, or show one."""

from typing import Any

import click
from pydantic import BaseModel

from burnish.cli.output import json_option, write_json, write_table
from registry.errors import PluginUnavailable
from registry.plugins import PASSES, RUNTIMES, PluginKind, describe_plugin, load_plugin, plugin_names
from serving.runtime import Runtime
from tasks.optimizer.base import Pass


@click.group()
def passes() -> None:
    """Optimization passes: the files of tasks/passes/ and the entry points of burnish.passes."""


@passes.command("list")
@json_option
def list_passes(as_json: bool) -> None:
    """List every pass."""
    _list(PASSES, as_json=as_json)


@passes.command("show")
@click.argument("name")
@json_option
def show_pass(name: str, as_json: bool) -> None:
    """Show a pass: what it takes and makes, its knobs, and whether it can run here."""
    _show(PASSES, name, Pass, as_json=as_json)


@click.group()
def runtimes() -> None:
    """Runtimes: the files of serving/runtimes/ and the entry points of burnish.runtimes."""


@runtimes.command("list")
@json_option
def list_runtimes(as_json: bool) -> None:
    """List every runtime."""
    _list(RUNTIMES, as_json=as_json)


@runtimes.command("show")
@click.argument("name")
@json_option
def show_runtime(name: str, as_json: bool) -> None:
    """Show a runtime: what it loads, its knobs, and whether it can run here."""
    _show(RUNTIMES, name, Runtime, as_json=as_json)


def why_unavailable(kind: PluginKind, name: str) -> str | None:
    """Import a plug-in and ask it: why it cannot run here, with the command that would change it; None if it can."""
    base: type[Pass] | type[Runtime] = Pass if kind is PASSES else Runtime
    try:
        return load_plugin(kind, name, base).unavailable()
    except PluginUnavailable as error:
        return str(error)


def _list(kind: PluginKind, *, as_json: bool) -> None:
    found = [describe_plugin(kind, name) for name in plugin_names(kind)]
    if as_json:
        write_json([{"name": info.name, "summary": info.summary, "module": info.module} for info in found])
    else:
        write_table((kind.noun, "what it does"), [(info.name, info.summary) for info in found])


def _show(kind: PluginKind, name: str, base: type[Pass] | type[Runtime], *, as_json: bool) -> None:
    info = describe_plugin(kind, name)
    shown: dict[str, Any] = {"name": name, "summary": info.summary, "module": info.module}
    shown["unavailable"] = why_unavailable(kind, name)
    if shown["unavailable"] is None:
        plugin = load_plugin(kind, name, base)
        shown |= _formats(plugin) | {"knobs": _knobs(plugin)}
    if as_json:
        write_json(shown)
        return
    for key, value in shown.items():
        if key != "knobs":
            click.echo(f"{key}: {_text(value)}")
    if shown.get("knobs"):
        rows = [(knob["name"], _text(knob["default"]), _text(knob["search"]), knob["about"]) for knob in shown["knobs"]]
        write_table(("knob", "default", "tried by a search", "what it does"), rows)


def _formats(plugin: type[Pass] | type[Runtime]) -> dict[str, Any]:
    if issubclass(plugin, Pass):
        return {
            "stage": plugin.stage.name.lower(),
            "consumes": sorted(plugin.consumes),
            "produces": plugin.produces.value,
            "suits": sorted(plugin.suits) if plugin.suits is not None else None,
            "needs_calibration": plugin.needs_calibration,
        }
    return {"consumes": sorted(plugin.consumes), "baseline_of": sorted(plugin.reference_for)}


def _knobs(plugin: type[BaseModel]) -> list[dict[str, Any]]:
    knobs = []
    for name, field in plugin.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        search = extra.get("search", [])
        knobs.append({"name": name, "default": field.default, "search": search, "about": field.description or ""})
    return knobs


def _text(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return "-"
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
