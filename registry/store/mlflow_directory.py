"""The directory that MLflow keeps of a version: its record, its card, and a pointer instead of the artifact's bytes."""

from pathlib import Path

import mlflow.pyfunc
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import Schema
from mlflow.types import TensorSpec as MlflowTensorSpec

from registry.model_card import model_card
from registry.records.model import Signature, TensorSpec, VersionDraft
from registry.store.location import ArtifactLocation
from registry.store.pointer import POINTER_FILE, Pointer

LOADER = "serving.pyfunc"
MODEL_FOLDER = "model"
VERSION_FILE = "version.json"


def write_model_directory(folder: Path, draft: VersionDraft, run_id: str, location: ArtifactLocation) -> None:
    """Write what MLflow's own loader needs of a version.

    Args:
        folder: an empty folder.
        draft: the version.
        run_id: the MLflow run that the directory will belong to, as its ``model``.
        location: where the artifact is.
    """
    pointer = Pointer(location=location, artifact=draft.artifact, runtime=draft.runtime, signature=draft.signature)
    (folder / POINTER_FILE).write_text(pointer.model_dump_json(indent=1), encoding="utf-8")
    (folder / VERSION_FILE).write_text(draft.model_dump_json(), encoding="utf-8")
    (folder / "model_card.md").write_text(model_card(draft), encoding="utf-8")
    model = Model(artifact_path=MODEL_FOLDER, run_id=run_id, signature=_mlflow_signature(draft.signature))
    mlflow.pyfunc.add_to_model(model, loader_module=LOADER)
    model.save(str(folder / MLMODEL_FILE_NAME))


def _mlflow_signature(signature: Signature) -> ModelSignature:
    return ModelSignature(
        inputs=Schema([_mlflow_tensor(spec) for spec in signature.inputs]),
        outputs=Schema([_mlflow_tensor(spec) for spec in signature.outputs]),
    )


def _mlflow_tensor(spec: TensorSpec) -> MlflowTensorSpec:
    shape = tuple(-1 if size is None else size for size in spec.shape)
    return MlflowTensorSpec(np.dtype(spec.datatype.numpy_name), shape, spec.name)
