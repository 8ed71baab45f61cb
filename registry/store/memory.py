"""Model versions in memory: the product's own fake, for tests and trials without a server."""

import shutil
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

from registry.errors import ModelNotFound
from registry.records.model import ModelVersion, VersionDraft


class MemoryStore:
    """Versions, aliases and attachments that last as long as the object."""

    def __init__(self) -> None:
        """Begin empty."""
        self._lock = threading.Lock()
        self._versions: dict[str, list[ModelVersion]] = {}
        self._aliases: dict[tuple[str, str], int] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="burnish-memory-store-")

    def register(self, draft: VersionDraft) -> ModelVersion:
        """Give a draft its number; the same ``optimization_id`` again returns the version it already has."""
        with self._lock:
            versions = self._versions.setdefault(draft.model, [])
            for known in versions:
                if known.draft.optimization_id == draft.optimization_id:
                    return known
            version = ModelVersion(version=len(versions) + 1, created_at=datetime.now(UTC), draft=draft)
            versions.append(version)
            return version

    def version(self, model: str, number: int) -> ModelVersion:
        """Return one version.

        Raises:
            ModelNotFound: there is none.
        """
        for version in self.versions(model):
            if version.version == number:
                return version
        raise ModelNotFound(f"there is no version {number} of {model!r}")

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """Return every version of a model, oldest first; empty for an unknown model."""
        with self._lock:
            return tuple(self._versions.get(model, ()))

    def models(self) -> tuple[str, ...]:
        """Return the names of all models, sorted."""
        with self._lock:
            return tuple(sorted(self._versions))

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        """Point an alias at a version, or remove it with ``None``.

        Raises:
            ModelNotFound: there is no such version.
        """
        if number is None:
            self._aliases.pop((model, alias), None)
        else:
            self._aliases[model, alias] = self.version(model, number).version

    def alias(self, model: str, alias: str) -> int | None:
        """Return the version that an alias points at."""
        return self._aliases.get((model, alias))

    def attach(self, model: str, number: int, name: str, folder: Path) -> None:
        """Keep a copy of a folder with a version under a name; a later one of the same name replaces it.

        Raises:
            ModelNotFound: there is no such version.
        """
        self.version(model, number)
        target = self._attachment(model, number, name)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)

    def attachment(self, model: str, number: int, name: str) -> Path:
        """Return the folder that was attached to a version under a name.

        Raises:
            ModelNotFound: nothing was.
        """
        target = self._attachment(model, number, name)
        if not target.is_dir():
            raise ModelNotFound(f"version {number} of {model!r} has no attachment {name!r}")
        return target

    def _attachment(self, model: str, number: int, name: str) -> Path:
        return Path(self._folder.name) / model / str(number) / name
