"""Look at a source model from outside: operators, size, inputs."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import onnx

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact
from tasks.optimizer.catalogue import Features


def source_features(source: Artifact) -> Features:
    """Look at a source without loading it.

    Raises:
        CandidateError: its file is not as intake writes it.
    """
    count = _onnx_operators if source.format is ArtifactFormat.ONNX else _program_operators
    return Features(
        format=source.format,
        operators=dict(sorted(count(source.file).items())),
        size_bytes=sum(path.stat().st_size for path in source.folder.rglob("*") if path.is_file()),
        input_rank=max(len(spec.shape) for spec in source.signature.inputs),
    )


def _onnx_operators(file: Path) -> Counter[str]:
    model = onnx.load(str(file), load_external_data=False)
    return Counter(node.op_type for node in model.graph.node)


def _program_operators(file: Path) -> Counter[str]:
    """Count the operators of an exported program's graph; ``torch.ops.aten.linear.default`` is ``linear``."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/models/model.json"))
            nodes = json.loads(archive.read(name))["graph_module"]["graph"]["nodes"]
    except (zipfile.BadZipFile, StopIteration, ValueError, KeyError) as error:
        raise CandidateError(f"{file} is not an exported program as intake writes it: {error}") from error
    return Counter(str(node["target"]).removeprefix("torch.ops.aten.").partition(".")[0] for node in nodes)
