"""Python files as syntax trees."""

import ast
from contextlib import suppress
from pathlib import Path

_ATTEMPTS = 3


def syntax_tree(file: Path) -> ast.Module:
    """Parse a Python file.

    CPython 3.11 keeps one count of depth for all threads, so that one that parses at the same time as another may be
    told of a mismatch that is none. Source: https://github.com/python/cpython/issues/106905.

    Raises:
        OSError: the file cannot be read.
        SyntaxError: it is not Python.
        ValueError: it is not text in UTF-8, or holds null bytes.
    """
    text = file.read_text(encoding="utf-8")
    for _ in range(_ATTEMPTS - 1):
        with suppress(SystemError):
            return ast.parse(text)
    return ast.parse(text)
