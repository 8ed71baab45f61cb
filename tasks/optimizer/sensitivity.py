"""Sensitivity per layer: what int8 of one layer alone does to the answers, measured once per source and kept."""

import time
from importlib.util import find_spec
from pathlib import Path

from registry.digest import file_digest, json_digest
from registry.records.base import Record
from registry.records.model import ArtifactFormat, PluginConfig
from registry.records.optimization import Sensitivity
from tasks.optimizer.base import Artifact
from tasks.optimizer.cache import Cache
from tasks.optimizer.identity import Identity
from tasks.optimizer.isolation import Limits, run_child
from tasks.optimizer.job import ARTIFACT_FOLDER, PlacedArtifact

SENSITIVITY_CHILD = "tasks.optimizer.sensitivity_child"
TO_FLOAT_GRAPH = PluginConfig(name="export_onnx")
"""The pass that makes the float ONNX graph of an exported program."""
_RESULT_FILE = "sensitivity.json"


class SensitivityJob(Record):
    """What the measuring child is told."""

    source: PlacedArtifact
    """A float ONNX graph, or an exported program, which is exported first."""
    calibration: str
    """Inputs as ``.npz``."""
    threads: int
    deadline: float
    """Unix time; the measurement looks at as many samples as it has time for."""


def measure_sensitivity(
    source: Artifact, calibration: Path, folder: Path, cache: Cache, identity: Identity, limits: Limits
) -> Sensitivity:
    """Return the sensitivity of every quantizable layer of a source, from the cache if it was measured before.

    Args:
        source: an ONNX model or an exported program.
        calibration: inputs as ``.npz``.
        folder: the child's workspace, with its log.
        cache: may hold the float graph of an exported program.
        identity: the keys of the cache.
        limits: of the child.

    Raises:
        CandidateError: the source has no layer to quantize or no ONNX form, or the child failed.
    """
    recipe = () if source.format is ArtifactFormat.ONNX else (TO_FLOAT_GRAPH,)
    key = json_digest({"sensitivity": _code(), "of": identity.build_key(recipe)})
    if not (kept := cache.get(key)):
        job = SensitivityJob(
            source=PlacedArtifact.of(kept_float_graph(source, cache, identity)),
            calibration=str(calibration.absolute()),
            threads=limits.threads,
            deadline=time.time() + limits.timeout_s,
        )
        value = run_child(SENSITIVITY_CHILD, job.model_dump(mode="json"), workspace=folder, limits=limits)
        measured = Sensitivity.model_validate(value)
        cache.put(key, lambda entry: (entry / _RESULT_FILE).write_text(measured.model_dump_json(), encoding="utf-8"))
        return measured
    return Sensitivity.model_validate_json((kept / _RESULT_FILE).read_text(encoding="utf-8"))


def kept_float_graph(source: Artifact, cache: Cache, identity: Identity) -> Artifact:
    """Return the float ONNX graph of an exported program if the cache has it, else the source itself."""
    if source.format is not ArtifactFormat.EXPORTED_PROGRAM:
        return source
    kept = cache.get(identity.build_key((TO_FLOAT_GRAPH,)))
    return Artifact(kept / ARTIFACT_FOLDER, ArtifactFormat.ONNX, source.signature) if kept else source


def _code() -> str:
    """Digest of the measuring code: changed code measures again."""
    spec = find_spec(SENSITIVITY_CHILD)
    return file_digest(Path(spec.origin)) if spec and spec.origin else ""
