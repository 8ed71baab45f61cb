"""Python files as syntax trees, also where another thread disturbs the parser."""

import ast
from pathlib import Path

import pytest

from registry import python_source
from registry.python_source import syntax_tree


def test_a_parser_that_another_thread_disturbed_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = 1\n")
    parse, asked = ast.parse, []

    def disturbed(text: str) -> ast.Module:
        asked.append(text)
        if len(asked) < 3:
            raise SystemError("AST constructor recursion depth mismatch (before=159, after=37)")
        return parse(text)

    monkeypatch.setattr("ast.parse", disturbed)
    assert ast.dump(syntax_tree(file)) == ast.dump(parse("x = 1\n"))
    asked.clear()
    monkeypatch.setattr(python_source, "_ATTEMPTS", 2)
    with pytest.raises(SystemError):
        syntax_tree(file)


def test_what_is_not_python_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("x = = 1\n")
    with pytest.raises(SyntaxError):
        syntax_tree(file)
