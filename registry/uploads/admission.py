"""Whether an uploaded file may become an artifact: its name says its kind, and its bytes must be of that kind."""

from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from registry.disk_space import told_when_full
from registry.errors import InputError
from registry.uploads.archive import Archive
from registry.uploads.exported_program import check_program
from registry.uploads.limits import UploadLimits
from registry.uploads.lookalikes import EXPORT_ADVICE, is_pickle
from registry.uploads.npz import check_npz
from registry.uploads.onnx_bundle import unpack
from registry.uploads.onnx_model import external_tensors
from registry.uploads.parquet import check_parquet


class UploadName(StrEnum):
    """The files that may be uploaded; the name says what a file is."""

    EXPORTED_PROGRAM = "model.pt2"
    ONNX = "model.onnx"
    ONNX_BUNDLE = "model.zip"
    EVALUATION_NPZ = "evaluation.npz"
    EVALUATION_PARQUET = "evaluation.parquet"
    CALIBRATION_NPZ = "calibration.npz"
    CALIBRATION_PARQUET = "calibration.parquet"


def admit(path: Path, name: UploadName, limits: UploadLimits, tree: Path) -> None:
    """Check a file that came in, in bounded memory, and lay out what the artifact will hold.

    Args:
        path: the file; it stays as it is.
        name: what it is.
        limits: its bounds.
        tree: an empty folder on the same disk: gets the file as a hard link, or what a bundle holds.

    Raises:
        InputError: it is not what its name says, damaged, or beyond a bound; the message says what and where.
        StorageFull: a bundle found no room to be unpacked.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as stream, told_when_full(tree):
            _check(stream, size, name, limits, tree)
    except InputError as error:
        raise InputError(f"{name.value} cannot be taken: {error}") from error
    if name is not UploadName.ONNX_BUNDLE:
        (tree / name.value).hardlink_to(path)


def _check(stream: BinaryIO, size: int, name: UploadName, limits: UploadLimits, tree: Path) -> None:
    match name.value.rpartition(".")[2]:
        case "onnx":
            _check_single(stream, size)
        case "parquet":
            check_parquet(stream, size)
        case "npz":
            check_npz(Archive(stream, size, limits))
        case "pt2":
            _refuse_pickle(stream)
            check_program(Archive(stream, size, limits), stream, limits)
        case _:
            unpack(Archive(stream, size, limits), tree, limits)


def _refuse_pickle(stream: BinaryIO) -> None:
    if is_pickle(stream.read(2)):
        raise InputError(f"it is a pickle, and loading it would run code; {EXPORT_ADVICE}")


def _check_single(stream: BinaryIO, size: int) -> None:
    for tensor in external_tensors(stream, size):
        raise InputError(
            f"the weight {tensor.name!r} lies in another file, {tensor.location!r}; send a .zip that holds the model "
            "and its weights, or save it as one file (onnx.save_model(..., save_as_external_data=False))"
        )
