"""The engine as it is benchmarked: with metrics, capture of 1 %, a traffic split of two versions, and lineage."""

import shutil
import sys
from pathlib import Path

from benchmarks.serving.network import INPUTS, signature
from benchmarks.serving.servers import Command
from registry.records.model import ArtifactFormat, ArtifactRef, PluginConfig, ServedVersion
from registry.records.release import CatalogEntry, TrafficSplit
from registry.store.artifacts_local import LocalArtifacts
from serving.engine.catalog import write_entry
from serving.settings import EngineSettings

SPLIT = {1: 90.0, 2: 10.0}
CAPTURE_RATE = 0.01
SETTLED = f"capture {CAPTURE_RATE:.0%}, split 90/10 of two versions, metrics and lineage on"
PORTS = (0, 1, 10, 11)
"""Distances of the doors of two workers from the first one's port."""

_PREFIX = "BURNISH_ENGINE_"


def engine(networks: Path, home: Path, workers: int, port: int, bento_port: int) -> Command:
    """Fill a catalog with every network and say how an engine on it is started.

    Args:
        networks: folder of ``NAME.onnx``.
        home: the engine's own, emptied first.
        workers: how many.
        port: of the first worker's REST door.
        bento_port: of the BentoML endpoint.
    """
    shutil.rmtree(home, ignore_errors=True)
    empty = home / "empty"
    empty.mkdir(parents=True)
    store = LocalArtifacts(home / "artifacts")
    for name in INPUTS:
        folder = home / "versions" / name
        folder.mkdir(parents=True)
        shutil.copy(networks / f"{name}.onnx", folder / ArtifactFormat.ONNX.main_file)
        artifact = ArtifactRef(sha256=store.put(folder), format=ArtifactFormat.ONNX, size_bytes=1)
        versions = tuple(
            ServedVersion(
                version=number,
                artifact=artifact,
                runtime=PluginConfig(name="onnxruntime"),
                signature=signature(name),
                batch_invariant=True,
            )
            for number in SPLIT
        )
        entry = CatalogEntry(model=name, generation=1, split=TrafficSplit(weights=SPLIT), versions=versions)
        write_entry(home / "catalog", entry)
    variables = {
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(home / "bento"),
        "PYTHONSAFEPATH": "1",
        f"{_PREFIX}CATALOG_FOLDER": str(home / "catalog"),
        f"{_PREFIX}ARTIFACTS_FOLDER": str(home / "artifacts"),
        f"{_PREFIX}CAPTURE_FOLDER": str(home / "capture"),
        f"{_PREFIX}CAPTURE_RATE": str(CAPTURE_RATE),
        f"{_PREFIX}DOOR_PORT": str(port),
        f"{_PREFIX}WORKERS": str(workers),
    }
    serve = (sys.executable, "-P", "-m", "bentoml", "serve", "serving.doors.bento:EngineService")
    doors = [port + 10 * worker + kind for worker in range(workers) for kind in (0, 1)]
    return Command((*serve, "--host", "127.0.0.1", "--port", str(bento_port)), variables, empty, (bento_port, *doors))


def socket_folders(engine: Command) -> tuple[Path | None, ...]:
    """Return the folder of each worker's socket files."""
    given = {name.removeprefix(_PREFIX).lower(): value for name, value in engine.variables.items() if _PREFIX in name}
    settings = EngineSettings.model_validate(given)
    return tuple(settings.sockets_folder(worker) for worker in range(settings.workers))
