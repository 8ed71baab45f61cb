"""The environment of the command that the benchmark runs."""

import os
from pathlib import Path


def without_history(folder: Path) -> dict[str, str]:
    """Return this process's environment with an empty history in a folder: nothing of earlier searches is known."""
    history = folder / "history.jsonl"
    history.unlink(missing_ok=True)
    return {**os.environ, "BURNISH_HISTORY": str(history.absolute())}
