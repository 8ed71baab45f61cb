"""Digests: one byte form of JSON, one digest of a tree."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.digest import canonical_json, file_digest, json_digest, tree_digest, tree_manifest
from registry.errors import InputError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_canonical_json_is_sorted_tight_and_utf8() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "größe"}) == '{"a":"größe","b":[1,2.5,null]}'.encode()
    assert json_digest({}) == hashlib.sha256(b"{}").hexdigest()


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_order_of_keys_does_not_change_a_digest(value: dict[str, object]) -> None:
    assert json_digest(dict(reversed(value.items()))) == json_digest(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 7)
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_trees_digest_covers_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    def tree(name: str, files: dict[str, str]) -> Path:
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        return tmp_path / name

    first = tree("first", {"a": "1", "sub/b": "2"})
    same = tree("same", {"sub/b": "2", "a": "1"})
    (same / "a").chmod(0o400)
    (same / "empty folder").mkdir()
    assert tree_digest(same) == tree_digest(first)
    assert sorted(tree_manifest(first)) == ["a", "sub/b"]
    others = [{"a": "1", "sub/b": "3"}, {"a": "1", "b": "2"}, {"a": "1"}, {"a": "1", "sub/b": "2", "c": ""}]
    digests = {tree_digest(tree(f"other-{index}", files)) for index, files in enumerate(others)}
    assert len(digests | {tree_digest(first)}) == 5


def test_links_and_special_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is neither"):
        tree_manifest(tmp_path)
    (tmp_path / "pipe").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(InputError, match="link is neither"):
        tree_manifest(tmp_path)


def test_a_folder_without_files_is_no_artifact(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="holds no file"):
            tree_manifest(folder)
