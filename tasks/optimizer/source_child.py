"""The child process that opens a source model: load what was checked, save it again, read out its signature."""

from importlib import import_module
from pathlib import Path
from typing import Any

from registry.records.model import Signature
from tasks.optimizer.isolation import answer


def open_source(job: dict[str, Any], _workspace: Path) -> dict[str, Any]:
    """Write the model in ``job["file"]`` anew as ``job["target"]`` and return its signature as JSON.

    Only the library of the model's own format is imported.
    """
    target = Path(job["target"])
    kind = "onnx" if target.suffix == ".onnx" else "program"
    signature: Signature = import_module(f"tasks.optimizer.source_{kind}").resave(Path(job["file"]), target)
    return signature.model_dump(mode="json")


if __name__ == "__main__":
    answer(open_source)
