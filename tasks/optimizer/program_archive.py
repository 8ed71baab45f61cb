"""Check the members of an exported program's archive and write a clean copy, without loading anything."""

import json
import re
import shutil
import zipfile
from pathlib import Path

from registry.errors import InputError
from registry.uploads.lookalikes import EXPORT_ADVICE
from tasks.optimizer.program_graph import check_payloads, clean_graph, parse_json

_ROOT = "model"
_GRAPH = "models/model.json"
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_LISTS = {
    "data/weights/model_weights_config.json": "data/weights/",
    "data/constants/model_constants_config.json": "data/constants/",
}
_PAYLOAD = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_PLAIN = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little", ".data/version": None}
_LEFT_OUT = re.compile(r"\.data/serialization_id|extra/.*")
_MAX_JSON_BYTES = 256 * 2**20
_MAX_SMALL_BYTES = 64 * 2**20


def clean_copy(path: Path, target: Path) -> None:
    """Write a copy of an exported program that holds only checked members.

    Raises:
        InputError: the archive is damaged or holds something that ``torch.export.save`` does not write for a
            program of plain tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            checked = _checked_json(archive, members)
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as copy:
                for name, info in members.items():
                    with copy.open(zipfile.ZipInfo(f"{_ROOT}/{name}"), "w", force_zip64=True) as stream:  # a fixed date
                        if name in checked:
                            stream.write(checked[name])
                        else:
                            with archive.open(info) as source:
                                shutil.copyfileobj(source, stream, 1 << 20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"the archive is damaged ({error})") from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members below the root folder that will be read, each of a known kind and an honest size."""
    found: dict[str, zipfile.ZipInfo] = {}
    roots = set()
    archive_bytes = Path(str(archive.filename)).stat().st_size
    for info in archive.infolist():
        root, _, name = info.filename.partition("/")
        roots.add(root)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1 or info.file_size > archive_bytes:
            raise InputError(f"its member {info.filename!r} is compressed or encrypted; torch.export.save does neither")
        if name in found or len(roots) > 1:
            raise InputError(f"its member {info.filename!r} stands twice or outside of the archive's one folder")
        if _LEFT_OUT.fullmatch(name):
            continue
        if not _known(name):
            raise InputError(f"its member {info.filename!r} is not of a plain exported program; {EXPORT_ADVICE}")
        if name.endswith(".pt") and info.file_size > _MAX_SMALL_BYTES:
            raise InputError(f"its example inputs take {info.file_size} bytes; export with small ones")
        found[name] = info
    missing = [name for name in (_GRAPH, _SAMPLE_INPUTS, *_LISTS, *_PLAIN) if name not in found]
    if missing:
        raise InputError(f"its member {missing[0]} is missing; {EXPORT_ADVICE}")
    return found


def _known(name: str) -> bool:
    return name in {_GRAPH, _SAMPLE_INPUTS} or name in _LISTS or name in _PLAIN or bool(_PAYLOAD.fullmatch(name))


def _checked_json(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, bytes]:
    for name, expected in _PLAIN.items():
        content = archive.read(members[name]) if members[name].file_size < 64 else b"?"
        if expected is not None and content != expected:
            raise InputError(f"its {name} is {content[:20]!r}, not {expected!r}; {EXPORT_ADVICE}")
    checked = {}
    for name, folder in _LISTS.items():
        config = parse_json(_read_json(archive, members[name]), name)
        absent = [path for path in check_payloads(config, name) if folder + path not in members]
        if absent:
            raise InputError(f"its member {folder}{absent[0]} is missing; the file is incomplete")
        checked[name] = json.dumps(config).encode()
    checked[_GRAPH] = clean_graph(parse_json(_read_json(archive, members[_GRAPH]), _GRAPH))
    return checked


def _read_json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > _MAX_JSON_BYTES:
        raise InputError(f"its member {info.filename!r} takes {info.file_size} bytes; the limit is {_MAX_JSON_BYTES}")
    return archive.read(info)
