"""The user's own code of a source model: ``FILE.py:FUNCTION``, given on the user's own machine only."""

import ast
from pathlib import Path

from registry.digest import file_digest, json_digest
from registry.errors import InputError
from registry.python_source import syntax_tree


def resolve_source_code(given: str) -> str:
    """Return the source code's name with its file's full path, after a look at its text; nothing of it is run.

    Raises:
        InputError: the file is missing, is no Python, or has no such function at its top level.
    """
    name, separator, function = given.rpartition(":")
    file = Path(name).expanduser()
    if not separator or not function.isidentifier() or file.suffix != ".py":
        raise InputError(f"{given!r} does not name source code; give FILE.py:FUNCTION")
    try:
        tree = syntax_tree(file)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise InputError(f"the source code {file} cannot be read: {error}") from error
    if not any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body):
        raise InputError(f"{file} has no function {function!r} at its top level; it must return the model's nn.Module")
    return f"{file.absolute()}:{function}"


def code_digest(source_code: str) -> str:
    """Return the digest of source code: of the file's bytes and the function's name.

    Raises:
        InputError: the file is not there.
    """
    name, _, function = source_code.rpartition(":")
    if not Path(name).is_file():
        raise InputError(f"the source code {name} does not exist")
    return json_digest([file_digest(Path(name)), function])
