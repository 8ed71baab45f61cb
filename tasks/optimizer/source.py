"""Take in a source model: look at its bytes, open it in a child process, keep only what Burnish itself saved."""

import zipfile
from pathlib import Path

from registry.errors import InputError
from registry.records.model import ArtifactFormat, Signature
from registry.uploads.lookalikes import ARCHIVE_MAGIC, EXPORT_ADVICE, is_pickle, not_a_program
from tasks.optimizer.base import Artifact
from tasks.optimizer.isolation import Limits, ask_child
from tasks.optimizer.program_archive import clean_copy

MAX_SOURCE_BYTES = 16 * 2**30
_LIMITS = Limits(timeout_s=300.0, memory_mib=16384)
_ONNX_FIRST_FIELD = b"\x08"  # ir_version, a varint


def take_in(path: Path, workspace: Path) -> Artifact:
    """Validate a ``.pt2`` or ``.onnx`` file and return Burnish's own re-saved copy of it, with its signature.

    What the file is follows from its content; nothing of it is executed in this process.

    Args:
        path: the user's file.
        workspace: a folder of this intake's own; the artifact is written below it.

    Raises:
        InputError: the file is missing, damaged, of another kind or holds more than a model of plain tensors; the
            message says what it is and what to do.
    """
    artifact_format = _sniff(path)
    artifact = workspace / "artifact" / artifact_format.main_file
    artifact.parent.mkdir(parents=True, exist_ok=True)
    if artifact_format is ArtifactFormat.ONNX:
        signature = _open_in_child(path, path.absolute(), artifact, workspace)
    else:
        checked, resaved = workspace / "checked.pt2", workspace / "resaved.pt2"
        _copy_checked(path, path, checked)
        signature = _open_in_child(path, checked, resaved, workspace)
        _copy_checked(path, resaved, artifact)  # the child read the user's file: what it wrote is checked like the file
        checked.unlink()
        resaved.unlink()
    return Artifact(artifact.parent, artifact_format, signature)


def _open_in_child(path: Path, file: Path, target: Path, workspace: Path) -> Signature:
    job = {"file": str(file.absolute()), "target": str(target.absolute())}
    answered = ask_child("tasks.optimizer.source_child", job, workspace=workspace, limits=_LIMITS)
    if answered.value is None:
        raise InputError(f"{path} cannot be taken in: {answered.failure}")
    try:
        return Signature.model_validate(answered.value)
    except ValueError as error:
        raise InputError(f"{path} has inputs or outputs that cannot be described: {error}") from error


def _copy_checked(path: Path, file: Path, target: Path) -> None:
    try:
        clean_copy(file, target)
    except InputError as error:
        raise InputError(f"{path} cannot be taken in: {error}") from error


def _sniff(path: Path) -> ArtifactFormat:
    """Tell by content what a file is.

    Raises:
        InputError: it is not an exported program or an ONNX model.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the model's file, .pt2 or .onnx")
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a model's file, .pt2 or .onnx")
    size = path.stat().st_size
    if not 0 < size <= MAX_SOURCE_BYTES:
        raise InputError(f"{path} has {size} bytes; a model's file has between 1 and {MAX_SOURCE_BYTES}")
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(ARCHIVE_MAGIC):
        return _sniff_zip(path)
    if is_pickle(head):
        raise InputError(f"{path} is a pickle, and loading it would run code; {EXPORT_ADVICE}")
    if path.suffix == ".onnx" or head[:1] == _ONNX_FIRST_FIELD:
        return ArtifactFormat.ONNX
    raise InputError(f"{path} is neither an exported program (.pt2) nor an ONNX model; {EXPORT_ADVICE}")


def _sniff_zip(path: Path) -> ArtifactFormat:
    try:
        with zipfile.ZipFile(path) as archive:
            if not archive.infolist() or archive.infolist()[0].header_offset:
                raise zipfile.BadZipFile("its directory is not of the whole file")
            names = {name.partition("/")[2] or name for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is a damaged archive ({error}); write it again") from error
    if what := not_a_program(names):
        raise InputError(f"{path} is {what}")
    return ArtifactFormat.EXPORTED_PROGRAM
