"""The MLflow loader of a registered version: resolves its pointer, checks the bytes, and predicts.

``mlflow.pyfunc.load_model("models:/<name>@champion")`` imports this module by the name in the version's
``MLmodel`` file. By the version's signature MLflow itself turns what ``predict`` is given (a dict of arrays, an array
for a model with one input, or a DataFrame with one column an input) into a dict of arrays.
"""

from collections.abc import Mapping
from pathlib import Path

from registry.store.pointer import POINTER_FILE, Pointer
from serving.runtime import Array, Arrays, Session, build_runtime


class PyfuncModel:
    """A session under MLflow's method name."""

    def __init__(self, session: Session) -> None:
        """Predict with a loaded session."""
        self._session = session

    def predict(self, model_input: Mapping[str, Array]) -> Arrays:
        """Return every output by name for inputs by name."""
        return self._session.run(model_input)


def _load_pyfunc(data_path: str) -> PyfuncModel:
    """Load the version whose model directory is at a path; called by MLflow.

    Raises:
        ModelNotFound: the artifact store does not have the version's artifact.
        RegistryError: the stored bytes do not have the version's digest.
        TransientError: the artifact store cannot be reached.
        PluginUnavailable: the version's runtime cannot work here.
    """
    pointer = Pointer.model_validate_json((Path(data_path) / POINTER_FILE).read_bytes())
    runtime = build_runtime(pointer.runtime)
    folder = pointer.location.open().checkout(pointer.artifact.sha256)
    return PyfuncModel(runtime.load(folder, pointer.artifact.format, pointer.signature))
