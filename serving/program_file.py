"""What an exported program's file may hold before PyTorch's loader, which unpickles freely, is let near it."""

import io
import json
import pickle
import pickletools
import re
import zipfile
from pathlib import Path

import torch

from registry.errors import CandidateError

_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PLAIN_MEMBER = re.compile(
    r"models/model\.json|data/weights/weight_\d+|data/constants/tensor_\d+"
    r"|archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
)
_OBJECT_MEMBER = re.compile(r"data/constants/(opaque_obj_\d+)")
_NAMING_BY_STACK = frozenset({"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})


def refuse_pickles(file: Path, *, classes: frozenset[str] = frozenset()) -> None:
    """Refuse an archive that ``torch.export.load`` would unpickle freely, by its present or its older formats.

    Args:
        file: the program.
        classes: names, such as ``module.Class``, that the pickled constants may refer to; without any, there may be no
            pickled constants.

    Raises:
        CandidateError: it holds other objects, unknown members, or example inputs that are not plain tensors.
        OSError: it cannot be read.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            name = member.partition("/")[2]
            content = archive.read(member) if name == _SAMPLE_INPUTS or name in _PAYLOADS else b""
            if name == _SAMPLE_INPUTS:
                _check_sample_inputs(content, file)
            elif name in _PAYLOADS:
                _check_payloads(content, file, objects=bool(classes))
            elif classes and _OBJECT_MEMBER.fullmatch(name):
                _check_object(archive.read(member), classes, file)
            elif not _PLAIN_MEMBER.fullmatch(name):
                raise CandidateError(f"{file} holds {member}, which is not of a program of plain tensors")


def _check_sample_inputs(content: bytes, file: Path) -> None:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except pickle.UnpicklingError as error:
        raise CandidateError(f"the example inputs of {file} are not plain tensors: {error}") from error


def _check_payloads(content: bytes, file: Path, *, objects: bool) -> None:
    for payload in json.loads(content)["config"].values():
        allowed = objects and _OBJECT_MEMBER.fullmatch(f"data/constants/{payload['path_name']}")
        if payload["use_pickle"] and not allowed:
            raise CandidateError(f"{file} holds pickled tensors; only plain ones are loaded")


def _check_object(content: bytes, classes: frozenset[str], file: Path) -> None:
    """Read a pickle's instructions without following them."""
    try:
        instructions = list(pickletools.genops(content))
    except ValueError as error:
        raise CandidateError(f"{file} holds an object that cannot be read: {error}") from error
    for instruction, argument, _ in instructions:
        named = str(argument).replace(" ", ".") if instruction.name == "GLOBAL" else ""
        if instruction.name in _NAMING_BY_STACK or (named and named not in classes):
            raise CandidateError(f"{file} holds an object of {named or 'a hidden class'}; allowed: {sorted(classes)}")
