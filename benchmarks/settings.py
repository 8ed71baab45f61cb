"""The environments of the commands that benchmarks run."""

import os
from pathlib import Path


def without_history(folder: Path) -> dict[str, str]:
    """Return this process's environment with an empty history in a folder: nothing of earlier searches is known."""
    history = folder / "history.jsonl"
    history.unlink(missing_ok=True)
    return {**os.environ, "BURNISH_HISTORY": str(history.absolute())}


def of_stack(home: Path) -> dict[str, str]:
    """Return this process's environment with the stack of a folder and no other."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BURNISH_")}
    return {**inherited, "BURNISH_HOME": str(home)}
