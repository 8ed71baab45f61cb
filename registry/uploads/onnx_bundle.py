"""ONNX models with weights in files of their own, sent as one ``.zip`` that holds only what the model names."""

import re
from collections.abc import Iterable
from pathlib import Path

from registry.disk_space import require_room
from registry.errors import InputError
from registry.uploads.archive import Archive
from registry.uploads.limits import UploadLimits
from registry.uploads.member import Member
from registry.uploads.onnx_model import ExternalTensor, external_tensors

MODEL_FILE = "model.onnx"
_PLAIN_NAME = re.compile(r"[^/\\\x00-\x1f\x7f:]{1,255}")
_ADVICE = "onnx.save_model(model, 'model.onnx', save_as_external_data=True, location='model.onnx.data') writes both"


def unpack(archive: Archive, folder: Path, limits: UploadLimits) -> None:
    """Write the model as ``model.onnx`` and beside it the files that it names.

    Raises:
        InputError: the archive holds no model or several, other files than the model names, or the model names what
            is not in it.
        StorageFull: there is no room for it.
    """
    require_room(folder, archive.unpacked_bytes)
    model, files = _parts(archive)
    _write(archive, model, folder / MODEL_FILE)
    with (folder / MODEL_FILE).open("rb") as stream:
        named = _named_files(external_tensors(stream, model.size), files, limits)
    unnamed = [member.name for name, member in files.items() if name not in named]
    if unnamed:
        raise InputError(f"the model does not name {unnamed[0]!r}; a bundle holds the model and its weights only")
    for name, member in files.items():
        _write(archive, member, folder / name)


def is_plain_name(location: str) -> bool:
    """True for the name of a file beside the model, on every operating system."""
    return bool(_PLAIN_NAME.fullmatch(location)) and location not in (".", "..")


def _parts(archive: Archive) -> tuple[Member, dict[str, Member]]:
    models = [member for member in archive.members if member.name.lower().endswith(".onnx")]
    if len(models) != 1:
        raise InputError(f"the archive holds {len(models)} .onnx files; a bundle holds one, and its weights; {_ADVICE}")
    (model,) = models
    folder = model.name.rpartition("/")[0]
    files = {}
    for member in archive.members:
        place, _, name = member.name.rpartition("/")
        if place != folder:
            raise InputError(f"{member.name!r} does not stand beside {model.name!r}; {_ADVICE}")
        if member is not model:
            files[name] = member
    return model, files


def _named_files(tensors: Iterable[ExternalTensor], files: dict[str, Member], limits: UploadLimits) -> set[str]:
    """Check where each weight lies, and what they come to; return the names of the files."""
    named, total = set(), 0
    for tensor in tensors:
        if not is_plain_name(tensor.location):
            raise InputError(
                f"the weight {tensor.name!r} lies in {tensor.location!r}, which is no plain file name beside the model"
            )
        if tensor.location not in files:
            raise InputError(f"the weight {tensor.name!r} lies in {tensor.location!r}, which is not in the archive")
        size = files[tensor.location].size
        length = size - tensor.offset if tensor.length is None else tensor.length
        if length < 0 or tensor.offset + length > size:
            raise InputError(
                f"the weight {tensor.name!r} lies at {tensor.offset}, {length} bytes long, in "
                f"{tensor.location!r}, which has {size} bytes"
            )
        named.add(tensor.location)
        total += length
        if total > limits.unpacked_bytes:
            raise InputError(f"the model's weights together take more than {limits.unpacked_bytes} bytes, the limit")
    return named


def _write(archive: Archive, member: Member, target: Path) -> None:
    with target.open("xb") as stream:
        for piece in archive.read(member):
            stream.write(piece)
