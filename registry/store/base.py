"""The protocols of the two stores: bytes (artifacts) and versions (models)."""

from pathlib import Path
from typing import Protocol

from registry.records.model import ModelVersion, VersionDraft

CHAMPION = "champion"
CHALLENGER = "challenger"


class ArtifactStore(Protocol):
    """Content-addressed folders: the name of a tree is the digest of its files."""

    def put(self, folder: Path) -> str:
        """Store a copy of a folder and return its tree digest; storing it again is a no-op.

        Raises:
            InputError: the folder is empty or holds links.
            TransientError: the store cannot be reached.
        """
        ...

    def checkout(self, digest: str) -> Path:
        """Return a local, read-only folder with the tree, every file's sha256 checked on this call.

        Raises:
            ModelNotFound: no tree has this digest.
            RegistryError: the stored bytes do not have this digest.
            TransientError: the store cannot be reached.
        """
        ...

    def size_bytes(self, digest: str) -> int:
        """Return the bytes of all files of a tree.

        Raises:
            ModelNotFound: no tree has this digest.
        """
        ...

    def exists(self, digest: str) -> bool:
        """True if a tree with this digest is stored."""
        ...

    def delete(self, digest: str) -> None:
        """Remove a tree; removing one that is not there is a no-op."""
        ...


class ModelStore(Protocol):
    """Model versions with numbers given by the store, and aliases that mirror the ledger."""

    def register(self, draft: VersionDraft) -> ModelVersion:
        """Give a draft its number; the same ``optimization_id`` again returns the version it already has.

        Raises:
            TransientError: the store cannot be reached.
        """
        ...

    def version(self, model: str, number: int) -> ModelVersion:
        """Return one version.

        Raises:
            ModelNotFound: there is none.
        """
        ...

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """Return every version of a model, oldest first; empty for an unknown model."""
        ...

    def models(self) -> tuple[str, ...]:
        """Return the names of all models, sorted."""
        ...

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        """Point an alias at a version, or remove it with ``None``.

        Raises:
            ModelNotFound: there is no such version.
        """
        ...

    def alias(self, model: str, alias: str) -> int | None:
        """Return the version that an alias points at."""
        ...

    def attach(self, model: str, number: int, name: str, folder: Path) -> None:
        """Keep a folder of files (a drift report, say) with a version under a name.

        Raises:
            ModelNotFound: there is no such version.
        """
        ...
