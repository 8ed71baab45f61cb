"""What both artifact stores check: that a digest is one, and which files of a tree are not what its manifest says."""

import json
import re
from pathlib import Path, PurePosixPath

from registry.digest import canonical_json, json_digest, tree_manifest
from registry.errors import InputError, RegistryError

_DIGEST = re.compile(r"[0-9a-f]{64}")

Manifest = dict[str, str]
"""{relative POSIX path: sha256} of every file of a tree; the tree's digest is the digest of its manifest."""


def check_digest(digest: str) -> str:
    """Return a digest if it is 64 lowercase hex digits, so that it can stand in a path.

    Raises:
        InputError: it is something else.
    """
    if not _DIGEST.fullmatch(digest):
        raise InputError(f"{digest!r} is not a sha256: give 64 lowercase hex digits")
    return digest


def dump_manifest(manifest: Manifest) -> bytes:
    """Return a manifest as canonical JSON."""
    return canonical_json(manifest)


def parse_manifest(content: bytes, digest: str) -> Manifest:
    """Return a manifest from its JSON.

    Raises:
        RegistryError: the content does not have this digest.
    """
    try:
        manifest = json.loads(content)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or json_digest(manifest) != digest:
        raise RegistryError(f"the manifest of artifact {digest} is damaged; delete the artifact and store it again")
    for name in manifest:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RegistryError(f"the manifest of artifact {digest} names {name!r}, a file outside of its tree")
    return manifest


def differences(expected: Manifest, found: Manifest) -> tuple[str, ...]:
    """Name each file that is missing, not part of the tree, or has other bytes."""
    missing = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    foreign = [f"{name} does not belong to it" for name in sorted(found.keys() - expected.keys())]
    changed = [
        f"{name} has sha256 {found[name]} instead of {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    return (*missing, *foreign, *changed)


def manifest_or_empty(folder: Path) -> Manifest:
    """Return the manifest of a folder as it stands; empty if no file is left, a link was put in, or it just went."""
    try:
        return tree_manifest(folder)
    except (InputError, FileNotFoundError):
        return {}


def tree_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
