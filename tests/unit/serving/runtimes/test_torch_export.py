"""Nothing that a program's archive holds is unpickled freely."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, Datatype, PluginConfig, Signature, TensorSpec
from serving.runtime import Session, build_runtime

PT2 = ArtifactFormat.EXPORTED_PROGRAM
SIGNATURE = Signature(
    inputs=(TensorSpec(name="input", datatype=Datatype.FP32, shape=(2, 3)),),
    outputs=(TensorSpec(name="output_0", datatype=Datatype.FP32, shape=(2, 1)),),
)

Members = dict[str, bytes]


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def members(tmp_path: Path) -> Members:
    program = torch.export.export(nn.Linear(3, 1), (torch.zeros(2, 3),))
    torch.export.save(program, tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def load(members: Members, folder: Path) -> Session:
    with zipfile.ZipFile(folder / "model.pt2", "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return build_runtime(PluginConfig(name="torch_export")).load(folder, PT2, SIGNATURE)


def torch_pickle(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def in_example_inputs(members: Members, mark: Path) -> Members:
    return members | {"data/sample_inputs/model.pt": torch_pickle(Payload(mark))}


def in_an_object(members: Members, mark: Path) -> Members:
    return members | {"data/constants/opaque_obj_0": pickle.dumps(Payload(mark))}


def in_a_weight(members: Members, mark: Path) -> Members:
    name = "data/weights/model_weights_config.json"
    config = json.loads(members[name])
    for payload in config["config"].values():
        payload["use_pickle"] = True
    return members | {name: json.dumps(config).encode(), "data/weights/weight_0": torch_pickle(Payload(mark))}


def in_old_constants(members: Members, mark: Path) -> Members:
    return members | {"data/constants/model.pt": torch_pickle(Payload(mark))}


def in_the_old_format(members: Members, mark: Path) -> Members:
    return {
        "serialized_exported_program.json": members["models/model.json"],
        "serialized_state_dict.pt": torch_pickle(Payload(mark)),
        "version": b"1",
    }


def test_the_untouched_archive_loads(members: Members, tmp_path: Path) -> None:
    load(members, tmp_path).warm_up()


@pytest.mark.parametrize(
    "craft",
    [in_example_inputs, in_an_object, in_a_weight, in_old_constants, in_the_old_format],
    ids=lambda f: f.__name__,
)
def test_a_pickle_is_refused_and_not_run(
    craft: Callable[[Members, Path], Members], members: Members, tmp_path: Path
) -> None:
    mark = tmp_path / "was-here"
    with pytest.raises(CandidateError, match=r"model\.pt2"):
        load(craft(members, mark), tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data/weights/model_weights_config.json", "models/model.json", "archive_format"])
def test_a_missing_member_loses_the_candidate(name: str, members: Members, tmp_path: Path) -> None:
    del members[name]
    with pytest.raises(CandidateError, match=r"model\.pt2"):
        load(members, tmp_path)
