"""The catalog: one small file per model in a watched folder, written by atomic rename."""

import asyncio
import logging
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from watchfiles import awatch

from registry.errors import InputError
from registry.records.release import CatalogEntry

SUFFIX = ".json"
RESCAN_SECONDS = 2.0
"""The folder is read again this often even if the watch saw nothing, so that no event is lost for good; ..."""

RESCAN_SHARE = 0.01
"""... but a folder of many files less often, so that it takes no more than this share of the time."""

_WATCH_ERRORS = (OSError, RuntimeError, ExceptionGroup)
"""What ends a watch: the system's errors, the library's own, and either in the group of the task that waited."""
_CHUNK_BYTES = 2**16
_log = logging.getLogger(__name__)
_FileStamp = tuple[int, int, int]


def write_entry(folder: Path, entry: CatalogEntry) -> None:
    """Write ``<model>.json`` so that a reader sees the old file or the new one, never a part.

    The folder is made if it is not there. The bytes are on disk before the rename.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{entry.model}{SUFFIX}"
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{entry.model}-", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_written(entry))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def holds_entry(folder: Path, entry: CatalogEntry) -> bool:
    """True if a model's file is, byte for byte, what ``write_entry`` would write."""
    try:
        return _content(folder / f"{entry.model}{SUFFIX}") == _written(entry)
    except OSError:
        return False


def read_entry(path: Path) -> CatalogEntry:
    """Read one catalog file.

    Raises:
        InputError: the file is gone, is not a catalog entry, or holds another model than its name says.
    """
    try:
        entry = CatalogEntry.model_validate_json(_content(path))
    except (OSError, ValidationError) as error:
        raise InputError(f"the catalog file {path} cannot be read: {error}") from error
    if entry.model != path.stem:
        raise InputError(f"the catalog file {path} holds the model {entry.model!r}; the file's name must be the model")
    return entry


@dataclass(frozen=True)
class CatalogChange:
    """What one scan found: entries that are new or other than before, and models whose file is gone."""

    entries: tuple[CatalogEntry, ...] = ()
    removed: tuple[str, ...] = ()


class Catalog:
    """The entries of the watched folder as last read well; a broken file keeps the last good entry.

    Scans and looks may be asked for by several threads; they take turns.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder to watch; nothing is read yet."""
        self.entries: dict[str, CatalogEntry] = {}
        self.broken: dict[str, str] = {}
        self._folder = folder
        self._stamps: dict[str, _FileStamp] = {}
        self._scan_due = 0.0
        self._turn = threading.Lock()

    def scan(self) -> CatalogChange:
        """Read the files that are other than at the last look; those unchanged cost one ``stat`` each."""
        with self._turn:
            return self._scan()

    def _scan(self) -> CatalogChange:
        started = time.monotonic()
        try:
            stamps = self._read_stamps()
        except OSError as error:
            self._report(str(self._folder), f"the catalog folder cannot be read: {error}")
            return CatalogChange()
        self._mended(str(self._folder))
        change = self._compare(stamps, [model for model in self._stamps if model not in stamps])
        self._stamps = stamps
        took = time.monotonic() - started
        self._scan_due = time.monotonic() + max(RESCAN_SECONDS, took / RESCAN_SHARE)
        return change

    def look(self, models: Iterable[str]) -> CatalogChange:
        """Read the files of some models if they are other than at the last look; the others cost nothing."""
        with self._turn:
            try:
                found = {model: _stamp_of(self._folder / f"{model}{SUFFIX}") for model in models}
                self._folder.stat()  # where the folder itself is lost, nothing in it was removed
            except OSError:
                return CatalogChange()
            stamps = {model: stamp for model, stamp in found.items() if stamp is not None}
            change = self._compare(stamps, [model for model in found.keys() - stamps if self._stamps.pop(model, None)])
            self._stamps.update(stamps)
        return change

    async def follow(self) -> AsyncIterator[CatalogChange]:
        """Yield after every change in the folder, and every few seconds in any case, what was found.

        What the watch saw is looked at by itself; the whole folder is scanned the less often, the longer that takes.
        """
        while True:
            self._scan_due = 0.0  # the watch sees nothing that changed before it began
            try:
                async for seen in awatch(
                    self._folder,
                    watch_filter=None,
                    debounce=100,
                    step=20,
                    rust_timeout=int(RESCAN_SECONDS * 1000),
                    yield_on_timeout=True,
                    recursive=False,
                ):
                    if time.monotonic() >= self._scan_due:
                        yield await asyncio.to_thread(self.scan)
                    else:
                        models = {name.stem for _, path in seen if _is_entry(name := Path(path))}
                        yield await asyncio.to_thread(self.look, models) if models else CatalogChange()
            except _WATCH_ERRORS as error:
                _log.warning("cannot watch %s, reading it every %s s: %s", self._folder, RESCAN_SECONDS, error)
                yield await asyncio.to_thread(self.scan)
                await asyncio.sleep(RESCAN_SECONDS)

    def _compare(self, stamps: dict[str, _FileStamp], removed: list[str]) -> CatalogChange:
        read = (self._accept(model) for model, stamp in stamps.items() if self._stamps.get(model) != stamp)
        entries = tuple(entry for entry in read if entry is not None)
        for model in removed:
            self._mended(model)
        return CatalogChange(entries, tuple(model for model in removed if self.entries.pop(model, None) is not None))

    def _read_stamps(self) -> dict[str, _FileStamp]:
        with os.scandir(self._folder) as found:
            return {
                entry.name.removesuffix(SUFFIX): stamp
                for entry in found
                if entry.name.endswith(SUFFIX)
                and not entry.name.startswith(".")
                and (stamp := _stamp_of(entry)) is not None
            }

    def _accept(self, model: str) -> CatalogEntry | None:
        """Read one file; None if it is broken, older than what is held, or the same."""
        try:
            entry = read_entry(self._folder / f"{model}{SUFFIX}")
        except InputError as error:
            self._report(model, str(error))
            return None
        known = self.entries.get(model)
        if known is not None and entry.generation < known.generation:
            older = f"generation {entry.generation} is older than {known.generation}, which is kept"
            self._report(model, older)
            return None
        self._mended(model)
        self.entries[model] = entry
        return entry if entry != known else None

    def _report(self, name: str, message: str) -> None:
        name, message = _printable(name), _printable(message)
        if self.broken.get(name) != message:
            _log.error("catalog: %s: %s", name, message)
        self.broken[name] = message

    def _mended(self, name: str) -> None:
        self.broken.pop(_printable(name), None)


def _written(entry: CatalogEntry) -> bytes:
    return entry.model_dump_json().encode()


def _content(path: Path) -> bytes:
    """Read a file by itself: the stream around one costs more than the file, and thousands are read at start."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer is empty, and is not waited for
    try:
        chunks = iter(lambda: os.read(file, _CHUNK_BYTES), b"")
        return b"".join(chunks)
    finally:
        os.close(file)


def _is_entry(path: Path) -> bool:
    return path.suffix == SUFFIX and not path.name.startswith(".")


def _stamp_of(file: Path | os.DirEntry[str]) -> _FileStamp | None:
    """Tell one content of a file from another; None if there is no such file. A link that leads nowhere is a file."""
    try:
        stat = file.stat()
    except OSError:
        try:
            stat = file.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
    return stat.st_ctime_ns, stat.st_size, stat.st_ino


def _printable(text: str) -> str:
    """Write out the bytes of a file's name that are no text, which neither JSON nor a log can hold."""
    return text.encode(errors="backslashreplace").decode()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
