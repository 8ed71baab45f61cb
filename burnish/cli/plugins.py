"""``burnish passes`` and ``burnish runtimes``: list the plug-ins, which imports none of them, or show one."""

import inspect
import re
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import click

from burnish.cli.output import json_option, write_json, write_table
from registry.errors import PluginUnavailable
from registry.plugins import (
    PASSES,
    RUNTIMES,
    PluginInfo,
    PluginKind,
    describe_plugin,
    hidden_plugins,
    load_plugin,
    plugin_names,
    usable_plugin,
)
from serving.runtime import Runtime
from tasks.optimizer.base import Pass

_TYPES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "none"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


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
        usable_plugin(kind, name, base)
    except PluginUnavailable as error:
        return str(error)
    return None


def _list(kind: PluginKind, *, as_json: bool) -> None:
    found = [describe_plugin(kind, name) for name in plugin_names(kind)]
    if as_json:
        write_json([_described(info) for info in found])
    else:
        rows = [(info.name, f"broken: {info.problem}" if info.problem else info.summary, info.origin) for info in found]
        write_table((kind.noun, "what it does", "from"), rows)
    for info in hidden_plugins(kind):
        click.echo(f"not used: {info.module} of {info.origin}: {info.problem}", err=True)


def _described(info: PluginInfo) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(info).items()}


def _show(kind: PluginKind, name: str, base: type[Pass] | type[Runtime], *, as_json: bool) -> None:
    info = describe_plugin(kind, name)
    shown = _described(info) | {"libraries": versions_of(info.imports), "unavailable": why_unavailable(kind, name)}
    with suppress(PluginUnavailable):  # told above
        plugin = load_plugin(kind, name, base)
        shown |= _formats(plugin) | {"needs": _needs(plugin), "source": _source(plugin), "knobs": _knobs(plugin)}
    if as_json:
        write_json(shown)
        return
    for key, value in shown.items():
        if key not in ("knobs", "problem", "imports"):
            click.echo(f"{key.replace('_', ' ')}: {_text(value)}")
    if shown.get("knobs"):
        rows = [
            (knob["name"], knob["values"], _text(knob["default"]), _text(knob["search"]), knob["about"])
            for knob in shown["knobs"]
        ]
        write_table(("knob", "values", "default", "tried by a search", "what it does"), rows)


def _formats(plugin: type[Pass] | type[Runtime]) -> dict[str, Any]:
    if issubclass(plugin, Pass):
        return {
            "stage": plugin.stage.name.lower(),
            "consumes": sorted(plugin.consumes),
            "produces": plugin.produces.value,
            "suits": sorted(plugin.suits) if plugin.suits is not None else None,
            "needs_calibration": plugin.needs_calibration,
            "needs_source_code": plugin.needs_source_code,
            "deterministic": plugin.deterministic,
        }
    return {"consumes": sorted(plugin.consumes), "baseline_of": sorted(plugin.reference_for)}


def _needs(plugin: type[Pass] | type[Runtime]) -> str | None:
    """What the machine must have: the first sentence of the plug-in's own ``unavailable``; None if it asks nothing."""
    asks = "unavailable" in vars(plugin)
    return (inspect.getdoc(plugin.unavailable) or "").split("\n\n", 1)[0].replace("\n", " ") if asks else None


def _source(plugin: type[Pass] | type[Runtime]) -> str | None:
    """What stands behind ``Source:`` in the class's docstring."""
    found = re.search(r"Source:\s*(.+?)(?:\n\s*\n|\Z)", inspect.getdoc(plugin) or "", re.DOTALL)
    return " ".join(found[1].split()) if found else None


def versions_of(imports: tuple[str, ...]) -> dict[str, str | None]:
    """The installed version of each imported package, by the name that pip knows; None where it is not installed."""
    distributions = packages_distributions()
    names = {name for package in imports for name in distributions.get(package, [package])}
    return {name: _version(name) for name in sorted(names)}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _knobs(plugin: type[Pass] | type[Runtime]) -> list[dict[str, Any]]:
    schema = plugin.model_json_schema()
    return [
        {
            "name": name,
            "values": _values(schema["properties"][name], schema.get("$defs", {})),
            "default": field.default,
            "search": list(plugin.search_values().get(name, ())),
            "about": field.description or "",
        }
        for name, field in plugin.model_fields.items()
    ]


def _values(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words such as ``int >= 1``."""
    if "$ref" in schema:
        return _values(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in schema:
        return " or ".join(_values(one, definitions) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_values(schema.get('items', {}), definitions)}"
    name = _TYPES.get(schema.get("type", ""), "any")
    return " ".join([name, *(f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)])


def _text(value: Any) -> str:  # noqa: ANN401
    if value is None or value in ((), [], {}):
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part or '(not installed)'}" for key, part in value.items())
    return ", ".join(str(part) for part in value) if isinstance(value, list | tuple) else str(value)
