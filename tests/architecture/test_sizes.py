"""The sizes of STYLE: file 300 lines, function 50, class depth 2 of ours. Complexity is ruff's."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("burnish", "flows", "tasks", "serving", "monitoring", "registry", "benchmarks", "tests")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50

# path or path::function -> why it may be larger
EXCEPTIONS: dict[str, str] = {}


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_and_functions_are_small(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    too_long = []
    if text.count("\n") > MAX_FILE_LINES and name not in EXCEPTIONS:
        too_long.append(f"{name}: {text.count(chr(10))} lines")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_FUNCTION_LINES and f"{name}::{node.name}" not in EXCEPTIONS:
                too_long.append(f"{name}::{node.name}: {lines} lines")
    assert not too_long
