"""Find a plug-in by file name, then by entry point; import only what is asked for.

A plug-in may be anybody's code, so whatever goes wrong in finding, importing or asking one is ``PluginUnavailable``
with the reason: it is told and left out, and nothing else is lost.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from pydantic import BaseModel, Field

from registry.errors import InputError, PluginNotFound, PluginUnavailable
from registry.python_source import syntax_tree

T = TypeVar("T")

_OWN = frozenset({"burnish", "flows", "tasks", "serving", "monitoring", "registry"})


@dataclass(frozen=True)
class PluginKind:
    """A family of plug-ins: the package whose files are plug-ins, and the entry-point group for others."""

    noun: str
    package: str
    group: str


PASSES = PluginKind(noun="pass", package="tasks.passes", group="burnish.passes")
RUNTIMES = PluginKind(noun="runtime", package="serving.runtimes", group="burnish.runtimes")


BUILT_IN = "burnish"


@dataclass(frozen=True)
class PluginInfo:
    """What can be told of a plug-in without importing it."""

    name: str
    summary: str
    module: str
    install: str | None = None
    origin: str = BUILT_IN
    """The distribution that it came with, such as ``my-package 1.0``."""
    file: Path | None = None
    problem: str | None = None
    """Why it cannot even be imported, where its text alone tells that."""
    imports: tuple[str, ...] = ()
    """The top-level packages that it imports besides the standard library and Burnish."""


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
    return tuple(sorted({*_modules_by_file(kind), *(point.name for point in _entry_points(kind))}))


def describe_plugin(kind: PluginKind, name: str) -> PluginInfo:
    """Read a plug-in's summary line and install command from its source text, without importing it.

    The install command is the module constant ``INSTALL`` (a string literal), for plug-ins whose library
    is not among the base requirements.

    Raises:
        PluginNotFound: no plug-in has this name.
    """
    files = _modules_by_file(kind)
    if name in files:
        return _read(name, files[name], BUILT_IN)
    for point in _entry_points(kind):
        if point.name == name:
            return _read(name, point.module, _origin(point))
    raise PluginNotFound(f"there is no {kind.noun} {name!r}; known: {', '.join(plugin_names(kind))}")


def hidden_plugins(kind: PluginKind) -> tuple[PluginInfo, ...]:
    """Return the entry points that are never used, because another plug-in has their name; ``problem`` says which."""
    taken = dict(_modules_by_file(kind))
    hidden = []
    for point in _entry_points(kind):
        first = taken.setdefault(point.name, point.module)
        if first != point.module:
            problem = f"the name {point.name!r} is that of {first}; rename the entry point"
            hidden.append(PluginInfo(point.name, "", point.module, origin=_origin(point), problem=problem))
    return tuple(hidden)


def load_plugin(kind: PluginKind, name: str, base: type[T]) -> type[T]:
    """Import one plug-in and return its class: the one subclass of ``base`` that its module defines.

    Raises:
        PluginNotFound: no plug-in has this name.
        PluginUnavailable: its library is not installed here, or it is broken; the message says which.
    """
    info = describe_plugin(kind, name)
    plugin = _only_subclass(kind, _imported(kind, info), base)
    fault = _fault(plugin, base)
    if fault:
        raise PluginUnavailable(f"the {kind.noun} {name!r} is not whole: {plugin.__name__} {fault}")
    return plugin


def usable_plugin(kind: PluginKind, name: str, base: type[T]) -> type[T]:
    """Import a plug-in, and ask it whether it can work here.

    Raises:
        PluginNotFound: no plug-in has this name.
        PluginUnavailable: it cannot work here, or it is broken; the message says why.
    """
    plugin: Any = load_plugin(kind, name, base)
    try:
        reason = plugin.unavailable()
        plugin.search_values()
    except Exception as error:  # a plug-in is anybody's code: it is left out, nothing else is lost
        raise PluginUnavailable(
            f"the {kind.noun} {name!r} is broken: {type(error).__name__} when asked whether it can run here: {error}"
        ) from error
    if reason:
        raise PluginUnavailable(f"the {kind.noun} {name!r} cannot run here: {reason}")
    return cast(type[T], plugin)


def build_plugin(kind: PluginKind, name: str, knobs: Mapping[str, Any], base: type[T]) -> T:
    """Import a plug-in by name, ask it whether it can work here, and give it its knobs.

    Raises:
        PluginNotFound: no plug-in has this name.
        PluginUnavailable: it cannot work here.
        InputError: a knob is unknown or has a wrong value.
    """
    plugin = usable_plugin(kind, name, base)
    try:
        return plugin(**knobs)
    except ValueError as error:
        raise InputError(f"the {kind.noun} {name!r} does not take these knobs: {error}") from error


def _imported(kind: PluginKind, info: PluginInfo) -> ModuleType:
    told = f"the {kind.noun} {info.name!r}"
    if info.problem:
        raise PluginUnavailable(f"{told} is broken: {info.problem}")
    try:
        return importlib.import_module(info.module)
    except (Exception, SystemExit) as error:  # a plug-in is anybody's code: it is left out, nothing else is lost
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing:
            command = info.install or f"pip install {missing.split('.')[0]}"
            raise PluginUnavailable(f"{told} needs {missing}, which is not installed here; run: {command}") from error
        command = f"; run: {info.install}" if info.install else ""
        raise PluginUnavailable(f"{told} cannot be imported: {type(error).__name__}: {error}{command}") from error


def _only_subclass(kind: PluginKind, module: ModuleType, base: type[T]) -> type[T]:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        told = f"{module.__name__} must define exactly one {base.__name__} to be a {kind.noun}"
        raise PluginUnavailable(f"{told}; it defines {len(found)}")
    return found[0]


def _fault(plugin: type[Any], base: type[Any]) -> str | None:
    """What a class lacks of all that its base leaves to it."""
    variables = [name for name in getattr(base, "__class_vars__", ()) if not hasattr(plugin, name)]
    if variables:
        return f"does not set {', '.join(sorted(variables))}"
    methods = getattr(plugin, "__abstractmethods__", ())
    if methods:
        return f"does not define {', '.join(sorted(methods))}"
    fields = getattr(plugin, "model_fields", {})
    without = [name for name, field in fields.items() if field.is_required()]
    return f"has knobs without a default: {', '.join(without)}" if without else None


def _read(name: str, module: str, origin: str) -> PluginInfo:
    file = _source_file(module)
    if file is None:
        problem = f"it names the module {module}, which is not installed or is no Python file"
        return PluginInfo(name, "", module, origin=origin, problem=problem)
    try:
        tree = syntax_tree(file)
    except (OSError, ValueError, SyntaxError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        return PluginInfo(name, "", module, origin=origin, file=file, problem=f"{file}{line}: {error}")
    summary = (ast.get_docstring(tree) or "").split("\n", 1)[0]
    return PluginInfo(
        name, summary, module, _string_constant(tree, "INSTALL"), origin, file, imports=_foreign_imports(tree)
    )


def _source_file(module: str) -> Path | None:
    """Find a module's file; unlike ``importlib.util.find_spec``, the packages above it are not imported."""
    top, *parts = module.split(".")
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for part in parts:
        folders = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", list(folders)) if spec and folders else None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _modules_by_file(kind: PluginKind) -> dict[str, str]:
    return {path.stem: f"{kind.package}.{path.stem}" for path in _plugin_files(kind)}


def _plugin_files(kind: PluginKind) -> Iterator[Path]:
    spec = importlib.util.find_spec(kind.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from (path for path in Path(folder).glob("*.py") if not path.stem.startswith("_"))


def _entry_points(kind: PluginKind) -> list[EntryPoint]:
    """The entry points of a kind in an order that does not depend on the order of installation."""
    return sorted(entry_points(group=kind.group), key=lambda point: (point.name, _origin(point), point.value))


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "a package"


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


def _foreign_imports(tree: ast.Module) -> tuple[str, ...]:
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return tuple(sorted(found - sys.stdlib_module_names - _OWN))
