"""The name of a user's source code: looked at, never run."""

from pathlib import Path

import pytest

from registry.errors import InputError
from tasks.optimizer.source_code import code_digest, resolve_source_code


def test_a_function_is_found_without_running_the_file(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("raise SystemExit\ndef build():\n    return 1\n")
    assert resolve_source_code(f"{file}:build") == f"{file}:build"


def test_the_digest_follows_the_bytes_and_the_function(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("def build(): ...\n")
    first = code_digest(f"{file}:build")
    assert first == code_digest(f"{file}:build") != code_digest(f"{file}:other")
    file.write_text("def build(): return 2\n")
    assert code_digest(f"{file}:build") != first
    with pytest.raises(InputError, match="does not exist"):
        code_digest(f"{tmp_path / 'gone.py'}:build")


@pytest.mark.parametrize(
    ("given", "said"),
    [("net.py", "give FILE.py:FUNCTION"), ("none.py:build", "cannot be read"), ("FILE:other", "no function 'other'")],
)
def test_what_names_no_function_is_an_input_error(given: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("def build(): ...\n")
    with pytest.raises(InputError, match=said):
        resolve_source_code(given.replace("FILE", str(file)))
