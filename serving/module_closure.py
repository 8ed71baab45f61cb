"""Which of our files some modules need, and which libraries, read from their import statements."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

from registry.python_source import syntax_tree


@dataclass(frozen=True)
class Closure:
    """Our files as paths below the root, and the top-level modules of others that they import, both sorted."""

    files: tuple[str, ...]
    libraries: tuple[str, ...]


def closure(root: Path, packages: tuple[str, ...], modules: tuple[str, ...]) -> Closure:
    """Follow the imports of modules through packages that stand below a root; what is in no such package is a library.

    Installed, the root is the folder that holds every library too: hence the packages are named.
    """
    files: set[str] = set()
    libraries: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        top = module.partition(".")[0]
        if top not in packages:
            libraries.add(top)
            continue
        path = _file(root, module)
        if path is not None and (relative := path.relative_to(root).as_posix()) not in files:
            files.add(relative)
            waiting += [*_parents(module), *_imports(path)]
    libraries -= sys.stdlib_module_names
    return Closure(tuple(sorted(files)), tuple(sorted(libraries)))


def requirements(libraries: tuple[str, ...]) -> list[str]:
    """Return pinned requirements of the installed distributions that provide these top-level modules.

    A local part such as ``+cpu`` is left out: it names a build, and the index may not offer that one.
    """
    known = packages_distributions()
    names = sorted({known[library][0] for library in libraries})
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]


def _file(root: Path, module: str) -> Path | None:
    stem = root.joinpath(*module.split("."))
    candidates = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import; what is imported from a module may be a module itself."""
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
