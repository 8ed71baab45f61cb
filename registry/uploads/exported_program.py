"""Exported programs (``.pt2``): zip archives in which nothing is packed, the example inputs an archive of their own."""

from typing import BinaryIO

from registry.errors import InputError
from registry.uploads.archive import Archive
from registry.uploads.limits import UploadLimits
from registry.uploads.lookalikes import EXPORT_ADVICE, not_a_program

_INNER_ARCHIVE = ".pt"


def check_program(archive: Archive, stream: BinaryIO, limits: UploadLimits) -> None:
    """Check that nothing unpacks to more than it is, and every checksum; what the members mean the intake checks.

    Raises:
        InputError: a member is packed or damaged, or the file is no exported program.
    """
    if what := not_a_program({member.name.partition("/")[2] or member.name for member in archive.members}):
        raise InputError(f"it is {what}")
    _require_stored(archive)
    archive.verify()
    for member in archive.members:
        if not member.name.endswith(_INNER_ARCHIVE):
            continue
        try:
            _require_stored(Archive(stream, member.size, limits, start=archive.data_start(member)))
        except InputError as error:
            raise InputError(f"in {member.name!r}: {error}") from error


def _require_stored(archive: Archive) -> None:
    for member in archive.members:
        if not member.stored:
            raise InputError(
                f"its member {member.name!r} is compressed, which torch.export.save never does; {EXPORT_ADVICE}"
            )
