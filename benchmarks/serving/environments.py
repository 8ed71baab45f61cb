"""An environment for each peer, from its pinned requirements; made once and again when they change."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
_INSTALL_SECONDS = 1200
_ASK_SECONDS = 60


class CannotInstall(Exception):
    """A peer's environment could not be made; the message says why."""


def environment(peer: str, folder: Path) -> Path:
    """Make a peer's environment below a folder if it is not there; return its interpreter.

    Raises:
        CannotInstall: pip could not install what the peer needs.
    """
    requirements = PEERS / peer / "requirements.txt"
    home = folder / peer
    stamp, wanted = home / ".requirements", hashlib.sha256(requirements.read_bytes()).hexdigest()
    python = home / "bin" / "python"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    _call([sys.executable, "-m", "venv", "--clear", str(home)], peer)
    _call([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)], peer)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def versions(python: Path) -> dict[str, str]:
    """Return every distribution of an environment with its version."""
    command = [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True).stdout
    return {one["name"]: one["version"] for one in json.loads(listed)}


def _call(command: list[str], peer: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(f"{peer}: not installed within {_INSTALL_SECONDS} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CannotInstall(f"{peer}: {last}")
