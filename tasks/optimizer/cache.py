"""The cache of what candidates made: products of passes and evaluated predictions, by digest of what they came from."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psutil

from registry.digest import tree_manifest
from registry.errors import InputError

_MANIFEST = "manifest.json"
_CONTENT = "content"
_PARTIAL = ".partial-"


class Cache:
    """Folders by key. An entry appears whole or not at all, and every byte is checked when it is read."""

    def __init__(self, folder: Path) -> None:
        """Open or make the cache and remove what dead processes left half-written."""
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"{_PARTIAL}*"):
            if not psutil.pid_exists(int(leftover.name.split("-")[1])):
                shutil.rmtree(leftover)

    def get(self, key: str) -> Path | None:
        """Return the entry's folder, or None; an entry whose bytes have changed is removed."""
        entry = self.folder / key
        if not entry.is_dir():
            return None
        try:
            if json.loads((entry / _MANIFEST).read_text(encoding="utf-8")) == tree_manifest(entry / _CONTENT):
                return entry / _CONTENT
        except (OSError, ValueError, InputError):
            pass
        shutil.rmtree(entry)
        return None

    def put(self, key: str, fill: Callable[[Path], object]) -> None:
        """Add an entry; ``fill`` writes it into an empty folder. An entry that is there already stays."""
        partial = self.folder / f"{_PARTIAL}{os.getpid()}-{uuid4().hex}"
        content = partial / _CONTENT
        content.mkdir(parents=True)
        try:
            fill(content)
            (partial / _MANIFEST).write_text(json.dumps(tree_manifest(content)), encoding="utf-8")
            if not (self.folder / key).exists():
                partial.rename(self.folder / key)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
