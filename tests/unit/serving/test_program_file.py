"""A program's file: plain tensors only, and objects of named classes where a runtime asks for them."""

import json
import pickle
import zipfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from registry.errors import CandidateError
from serving.program_file import refuse_pickles

ENGINE = frozenset({"fractions.Fraction"})
PLAIN = {"archive_format": b"pt2", "models/model.json": b"{}"}


class Command:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Counter, ("this could be any function",)


def write(folder: Path, members: dict[str, bytes]) -> Path:
    file = folder / "program.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (PLAIN | members).items():
            archive.writestr(f"program/{name}", content)
    return file


def constants(path_name: str, content: bytes) -> dict[str, bytes]:
    config = {"config": {"engine": {"path_name": path_name, "use_pickle": True}}}
    return {
        "data/constants/model_constants_config.json": json.dumps(config).encode(),
        f"data/constants/{path_name}": content,
    }


def test_an_object_of_a_named_class_is_let_through_only_where_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path, constants("opaque_obj_0", pickle.dumps(Fraction(1, 3), protocol=2)))
    refuse_pickles(file, classes=ENGINE)
    with pytest.raises(CandidateError, match="pickled"):
        refuse_pickles(file)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_an_object_of_another_class_is_refused_unread(tmp_path: Path, protocol: int) -> None:
    file = write(tmp_path, constants("opaque_obj_0", pickle.dumps(Command(), protocol=protocol)))
    with pytest.raises(CandidateError, match="holds an object of"):
        refuse_pickles(file, classes=ENGINE)


@pytest.mark.parametrize("name", ["custom_obj_0", "tensor_0"])
def test_other_pickles_are_refused_even_where_objects_are_asked_for(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, constants(name, pickle.dumps(Fraction(1, 3), protocol=2)))
    with pytest.raises(CandidateError, match="pickled tensors"):
        refuse_pickles(file, classes=ENGINE)


def test_what_is_no_pickle_and_unknown_members_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="cannot be read"):
        refuse_pickles(write(tmp_path, constants("opaque_obj_0", b"\xff\xff")), classes=ENGINE)
    with pytest.raises(CandidateError, match=r"code/run\.py"):
        refuse_pickles(write(tmp_path, {"code/run.py": b""}), classes=ENGINE)
