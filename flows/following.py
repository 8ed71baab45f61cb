"""What follows the ledger: catalog files and the model store's aliases, repaired wherever they say something else.

What was found in step is remembered by the marks of ledger and file, so that a round costs what has changed.
"""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from flows.releases import mirror, publish
from registry.errors import RegistryError, TransientError
from registry.ledger.ledger import Ledger
from registry.ledger.listings import Mark
from registry.store.base import CHAMPION, ModelStore
from serving.engine.catalog import SUFFIX, holds_entry

IN_STEP = "in step"
NOT_LOOKED = "not looked at yet"

_NAMED = 100
"""So many models are named at most where something is said of each."""

_AT_ONCE = 20
"""So many models are read of the ledger by one query; ..."""

_PAUSE_SHARE = 4.0
"""... and so many times as long as that took, requests have the process for themselves."""

_Stamp = tuple[int, int, int]


class Following:
    """Catalog and mirrors of one ledger."""

    def __init__(self, ledger: Ledger, store: ModelStore, catalog_folder: Path) -> None:
        """Know of nothing that it is in step."""
        self._ledger = ledger
        self._store = store
        self._folder = catalog_folder
        self._published: dict[str, tuple[Mark, _Stamp | None]] = {}
        self._mirrored: dict[str, int] = {}
        self._behind: set[str] = set()
        self.mirrors = NOT_LOOKED

    def repair(self, *, whole: bool = True) -> Iterator[str]:
        """Make catalog and mirrors say what the ledger says.

        Args:
            whole: look at all of the model store, and admit versions that a dead process left registered; otherwise
                only at what has changed in the ledger since.

        Yields:
            One sentence for each thing that was repaired, could not be, or waits for a release.

        Raises:
            TransientError: the ledger cannot be reached.
        """
        marks = self._ledger.listings.marks()
        yield from self._publish(marks)
        try:
            if whole:
                yield from self._admit()
            yield from self._mirror(marks, whole=whole)
        except TransientError as error:
            self.mirrors = f"cannot be looked at: {error}"
            yield f"the model store cannot be looked at, its aliases follow later: {error}"
        yield from self._unreleased()

    def follow(self, models: Iterable[str]) -> Iterator[str]:
        """Set the aliases of models whose route has just changed; of the others nothing is looked at.

        Yields:
            One sentence for each alias that was set, or could not be.

        Raises:
            TransientError: the ledger or the model store cannot be reached.
        """
        for model in models:
            yield from self._mirror_one(model)
        self.mirrors = self._said_of_mirrors()

    def _publish(self, marks: dict[str, Mark]) -> Iterator[str]:
        stamps = _stamps(self._folder)
        other = [model for model, mark in marks.items() if self._published.get(model) != (mark, stamps.get(model))]
        for first in range(0, len(other), _AT_ONCE):
            began = time.monotonic()
            for entry in self._ledger.listings.entries(other[first : first + _AT_ONCE]):
                model, stamp = entry.model, stamps.get(entry.model)
                if not holds_entry(self._folder, entry):
                    if publish(self._ledger, self._folder, model):
                        yield f"{model}: the catalog was behind the ledger and was written again"
                    stamp = _stamp(self._folder / f"{model}{SUFFIX}")
                self._published[model] = (marks[model], stamp)
            if first + _AT_ONCE < len(other):
                time.sleep(_PAUSE_SHARE * (time.monotonic() - began))

    def _admit(self) -> Iterator[str]:
        for model in self._store.models():
            admitted = {served.version for served in self._ledger.served(model)}
            missing = [version for version in self._store.versions(model) if version.version not in admitted]
            for version in missing:
                self._ledger.admit(model, version.served)
                yield f"{model}: version {version.version} was registered but not admitted; it is now"
            if missing:
                publish(self._ledger, self._folder, model)

    def _mirror(self, marks: dict[str, Mark], *, whole: bool) -> Iterator[str]:
        self._behind &= marks.keys()
        for model, mark in marks.items():
            if mark.generation and (whole or self._mirrored.get(model) != mark.generation):
                yield from self._mirror_one(model)
                if model not in self._behind:
                    self._mirrored[model] = mark.generation
        self.mirrors = self._said_of_mirrors()

    def _mirror_one(self, model: str) -> Iterator[str]:
        try:
            if mirror(self._ledger, self._store, model):
                yield f"{model}: the alias {CHAMPION} was behind the ledger and was set to the live version"
            self._behind.discard(model)
        except RegistryError as error:
            self._behind.add(model)
            yield f"{model}: the alias {CHAMPION} cannot follow the ledger: {error}"

    def _said_of_mirrors(self) -> str:
        return f"behind for {', '.join(sorted(self._behind)[:_NAMED])}" if self._behind else IN_STEP

    def _unreleased(self) -> Iterator[str]:
        """Name each version that is newer than every version that was ever live."""
        waiting = self._ledger.listings.unreleased(_NAMED + 1)
        for model, version, champion in waiting[:_NAMED]:
            live = f"live: version {champion}" if champion else "nothing is live"
            yield f"{model}: version {version} is registered but was never released ({live})"
        if len(waiting) > _NAMED:
            yield "more versions are registered but were never released"


def _stamps(folder: Path) -> dict[str, _Stamp]:
    """What tells whether a file is the one that was looked at, by model."""
    try:
        with os.scandir(folder) as files:
            return {
                file.name.removesuffix(SUFFIX): (stat.st_ctime_ns, stat.st_size, stat.st_ino)
                for file in files
                if file.name.endswith(SUFFIX) and (stat := file.stat())
            }
    except FileNotFoundError:
        return {}


def _stamp(file: Path) -> _Stamp | None:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_ctime_ns, stat.st_size, stat.st_ino
