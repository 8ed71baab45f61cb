"""Find a plug-in by file name, then by entry point; import only what is asked for."""

import ast
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from registry.errors import InputError, PluginNotFound, PluginUnavailable

T = TypeVar("T")


@dataclass(frozen=True)
class PluginKind:
    """A family of plug-ins: the package whose files are plug-ins, and the entry-point group for others."""

    noun: str
    package: str
    group: str


PASSES = PluginKind(noun="pass", package="tasks.passes", group="burnish.passes")
RUNTIMES = PluginKind(noun="runtime", package="serving.runtimes", group="burnish.runtimes")


@dataclass(frozen=True)
class PluginInfo:
    """What can be told of a plug-in without importing it."""

    name: str
    summary: str
    module: str
    install: str | None


def knob(default: Any, *, search: tuple[Any, ...] = (), description: str) -> Any:  # noqa: ANN401
    """Declare a pass's or runtime's knob: its default, the values a search tries, and what it does."""
    return Field(default=default, description=description, json_schema_extra={"search": list(search)})


def search_values(plugin: type[BaseModel]) -> dict[str, tuple[Any, ...]]:
    """Return the values that a search tries, by knob; knobs without declared values keep their default."""
    found = {}
    for name, field in plugin.model_fields.items():
        extra = field.json_schema_extra
        values = extra.get("search") if isinstance(extra, dict) else None
        if isinstance(values, list) and values:
            found[name] = tuple(values)
    return found


def plugin_names(kind: PluginKind) -> tuple[str, ...]:
    """Return the sorted names of every plug-in of a kind, importing none of them."""
    return tuple(sorted({*_modules_by_file(kind), *_entry_points(kind)}))


def describe_plugin(kind: PluginKind, name: str) -> PluginInfo:
    """Read a plug-in's summary line and install command from its source text, without importing it.

    The install command is the module constant ``INSTALL`` (a string literal), for plug-ins whose library
    is not among the base requirements.

    Raises:
        PluginNotFound: no plug-in has this name.
    """
    module = _module_name(kind, name)
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise PluginNotFound(f"the {kind.noun} {name!r} names the module {module}, which is not installed")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    summary = (ast.get_docstring(tree) or "").split("\n", 1)[0]
    return PluginInfo(name=name, summary=summary, module=module, install=_string_constant(tree, "INSTALL"))


def load_plugin(kind: PluginKind, name: str, base: type[T]) -> type[T]:
    """Import one plug-in and return its class: the one subclass of ``base`` that its module defines.

    Raises:
        PluginNotFound: no plug-in has this name.
        PluginUnavailable: its library is not installed here.
        InputError: the module does not define exactly one subclass of ``base``.
    """
    info = describe_plugin(kind, name)
    try:
        module = importlib.import_module(info.module)
    except ImportError as error:
        missing = error.name or str(error)
        command = info.install or f"pip install {missing.split('.')[0]}"
        raise PluginUnavailable(
            f"the {kind.noun} {name!r} needs {missing}, which is not installed here; run: {command}"
        ) from error
    return _only_subclass(module, base)


def build_plugin(kind: PluginKind, name: str, knobs: Mapping[str, Any], base: type[T]) -> T:
    """Import a plug-in by name, ask it whether it can work here, and give it its knobs.

    Raises:
        PluginNotFound: no plug-in has this name.
        PluginUnavailable: it cannot work here.
        InputError: a knob is unknown or has a wrong value.
    """
    plugin: Any = load_plugin(kind, name, base)
    reason = plugin.unavailable()
    if reason:
        raise PluginUnavailable(f"the {kind.noun} {name!r} cannot run here: {reason}")
    try:
        built: T = plugin(**knobs)
    except ValueError as error:
        raise InputError(f"the {kind.noun} {name!r} does not take these knobs: {error}") from error
    return built


def _only_subclass(module: ModuleType, base: type[T]) -> type[T]:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise InputError(f"{module.__name__} must define exactly one {base.__name__}; it defines {len(found)}")
    return found[0]


def _module_name(kind: PluginKind, name: str) -> str:
    files = _modules_by_file(kind)
    if name in files:
        return files[name]
    points = _entry_points(kind)
    if name in points:
        return points[name].module
    known = ", ".join(plugin_names(kind))
    raise PluginNotFound(f"there is no {kind.noun} {name!r}; known: {known}")


def _modules_by_file(kind: PluginKind) -> dict[str, str]:
    return {path.stem: f"{kind.package}.{path.stem}" for path in _plugin_files(kind)}


def _plugin_files(kind: PluginKind) -> Iterator[Path]:
    spec = importlib.util.find_spec(kind.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from (path for path in Path(folder).glob("*.py") if not path.stem.startswith("_"))


def _entry_points(kind: PluginKind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=kind.group)}


def _string_constant(tree: ast.Module, name: str) -> str | None:
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        ):
            return node.value.value
    return None
