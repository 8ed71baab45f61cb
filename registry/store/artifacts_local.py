"""Artifacts on local disk: ``root/sha256/<first two>/<digest>/<files>``, checked on every read."""

import os
import shutil
from pathlib import Path
from uuid import uuid4

from registry.digest import json_digest, tree_manifest
from registry.disk_space import told_when_full
from registry.errors import InputError, ModelNotFound, RegistryError
from registry.file_lock import file_lock
from registry.store.tree import (
    Manifest,
    check_digest,
    differences,
    dump_manifest,
    manifest_or_empty,
    parse_manifest,
    tree_bytes,
)

_READ_ONLY = 0o444


class LocalArtifacts:
    """A content-addressed folder; any number of processes may use it at once.

    A tree appears by one rename, with its manifest (``<digest>.json`` beside it) already there, so a tree that is
    seen is whole. The manifest only serves to name the file that is damaged: the digest covers it.
    """

    def __init__(self, root: Path) -> None:
        """Use a folder as the store; it is made when the first tree is put."""
        self.root = root

    def put(self, folder: Path) -> str:
        """Store a copy of a folder and return its tree digest; storing it again is a no-op, or a repair.

        Raises:
            InputError: the folder is empty, holds links, or changed while it was copied.
            StorageFull: the disk has no room for it; nothing of it is left.
            TransientError: others repaired trees of this store for too long.
        """
        manifest = tree_manifest(folder)
        digest = json_digest(manifest)
        if not self._intact(digest):
            self._store(folder, manifest, digest)
        return digest

    def checkout(self, digest: str) -> Path:
        """Return the stored folder itself, every file's sha256 checked on this call.

        Raises:
            ModelNotFound: no tree has this digest.
            RegistryError: the stored bytes do not have this digest; the message names the files.
        """
        folder = self._folder(digest)
        found = manifest_or_empty(folder)
        if json_digest(found) != digest:
            self._existing(digest)
            raise RegistryError(
                f"artifact {digest} in {folder} is damaged: {'; '.join(self._damage(digest, found))}. "
                "Nothing was loaded from it; delete it and store it again"
            )
        return folder

    def size_bytes(self, digest: str) -> int:
        """Return the bytes of all files of a tree.

        Raises:
            ModelNotFound: no tree has this digest.
        """
        return tree_bytes(self._existing(digest))

    def exists(self, digest: str) -> bool:
        """True if a tree with this digest is stored."""
        return self._folder(digest).is_dir()

    def delete(self, digest: str) -> None:
        """Remove a tree; removing one that is not there is a no-op."""
        self._move_away(digest)
        self._manifest_file(digest).unlink(missing_ok=True)

    def _folder(self, digest: str) -> Path:
        return self.root / "sha256" / check_digest(digest)[:2] / digest

    def _manifest_file(self, digest: str) -> Path:
        return self._folder(digest).with_suffix(".json")

    def _existing(self, digest: str) -> Path:
        folder = self._folder(digest)
        if not folder.is_dir():
            raise ModelNotFound(f"there is no artifact {digest} in {self.root}")
        return folder

    def _intact(self, digest: str) -> bool:
        return self.exists(digest) and json_digest(manifest_or_empty(self._folder(digest))) == digest

    def _damage(self, digest: str, found: Manifest) -> tuple[str, ...]:
        manifest_file = self._manifest_file(digest)
        if not manifest_file.is_file():
            return ("its manifest is missing",)
        return differences(parse_manifest(manifest_file.read_bytes(), digest), found)

    def _store(self, folder: Path, manifest: Manifest, digest: str) -> None:
        with told_when_full(self.root):
            copy = self._incoming()
            try:
                shutil.copytree(folder, copy, symlinks=True, copy_function=self._copy)
                if tree_manifest(copy) != manifest:
                    raise InputError(f"{folder} changed while it was stored; store it when nothing writes to it")
                _seal(copy)
                self._publish(copy, manifest, digest)
            finally:
                shutil.rmtree(copy, ignore_errors=True)

    def _copy(self, source: str, target: str) -> str:
        """Copy one file; a full disk ends the copy of the whole tree: ``copytree`` would go on with the next file."""
        with told_when_full(self.root):
            return shutil.copy2(source, target, follow_symlinks=False)

    def _publish(self, copy: Path, manifest: Manifest, digest: str) -> None:
        target = self._folder(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        manifest_copy = self._incoming()
        try:
            manifest_copy.write_bytes(dump_manifest(manifest))
            manifest_copy.replace(self._manifest_file(digest))
        finally:
            manifest_copy.unlink(missing_ok=True)
        try:
            copy.rename(target)
        except OSError:  # a folder is there: a damaged one, or one that another process has just put
            if not self._intact(digest):
                self._replace(copy, digest)
        _sync(target.parent)

    def _replace(self, copy: Path, digest: str) -> None:
        """Put a copy in the place of a damaged tree; repairs take turns, so that none takes another's away."""
        with file_lock(self.root / "repairs.lock"):
            if self._intact(digest):
                return
            self._move_away(digest)
            try:
                copy.rename(self._folder(digest))
            except OSError:  # another process found the place free and has just put it
                if not self._intact(digest):
                    raise

    def _move_away(self, digest: str) -> None:
        away = self._incoming()
        try:
            self._folder(digest).rename(away)
        except FileNotFoundError:
            return
        shutil.rmtree(away)

    def _incoming(self) -> Path:
        folder = self.root / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid4().hex


def _seal(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(_READ_ONLY)
            _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
