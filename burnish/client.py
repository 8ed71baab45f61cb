"""The Python client: speaks HTTP to the control API and to the gateway, and imports nothing of the platform."""

import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from burnish.errors import RemoteError
from burnish.experiment_calls import ExperimentCalls
from burnish.explanation import Explanation
from burnish.files import DATASET_SUFFIXES, MODEL_SUFFIXES, require_file
from burnish.remote import Remote
from burnish.replies import (
    Candidate,
    DriftReport,
    FlowRun,
    Model,
    Optimization,
    Prediction,
    Status,
    Version,
    Versions,
)
from burnish.route_calls import RouteCalls
from burnish.settings import find_endpoints
from burnish.uploads import OnSent, send_file

UPLOAD_TIMEOUT_S = 600.0
_POLL_S = 1.0

OnFileSent = Callable[[str, int, int], None]
"""Is told a file's name, how many bytes of it were sent, and how many it has."""


class Client(RouteCalls, ExperimentCalls):
    """A stack, found by ``BURNISH_CONTROL_URL`` and ``BURNISH_GATEWAY_URL`` or in ``BURNISH_HOME``."""

    def __init__(
        self, control_url: str | None = None, gateway_url: str | None = None, *, api_key: str | None = None
    ) -> None:
        """Find the addresses; nothing is sent yet.

        Args:
            control_url: the control API's base URL.
            gateway_url: the gateway's base URL.
            api_key: a tenant's key; none: that of ``BURNISH_API_KEY``, if there is one.

        Raises:
            InputError: the stack's file cannot be read.
        """
        found = find_endpoints(control_url, gateway_url, api_key)
        key = found.api_key
        self._control = Remote("the control API", found.control_url, api_key=key)
        self._uploads = Remote("the control API", found.control_url, timeout_s=UPLOAD_TIMEOUT_S, api_key=key)
        self._gateway = Remote("the gateway", found.gateway_url, api_key=key)

    @property
    def control_url(self) -> str:
        """Base URL of the control API."""
        return self._control.base_url

    def close(self) -> None:
        """Close all connections."""
        for remote in (self._control, self._uploads, self._gateway):
            remote.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close all connections."""
        self.close()

    def upload(self, path: Path, filename: str, on_sent: OnSent | None = None) -> str:
        """Send one file under one of the names that the control API takes; return its digest.

        A connection that breaks is made anew, and the upload goes on where it was cut.

        Raises:
            InputError: the file cannot be read or is refused.
            RemoteError: the control API failed.
        """
        return send_file(self._uploads, path, filename, on_sent)

    def push_files(
        self,
        model_path: Path,
        name: str,
        evaluation: Path,
        calibration: Path | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        on_sent: OnFileSent | None = None,
    ) -> Optimization:
        """Upload a model with its sets and start its optimization; return at once.

        Args:
            model_path: ``.pt2``, ``.onnx``, or ``.zip`` with an ONNX model and its weights in files of their own.
            name: the model's.
            evaluation: the evaluation set, ``.npz`` or ``.parquet``.
            calibration: the calibration set, of the same kinds; never labels.
            config: what the search shall do.
            on_sent: is told a file's name, how many bytes of it were sent, and how many it has.

        Raises:
            InputError: a file cannot be used, or the configuration holds what it should not.
            RemoteError: the control API failed.
        """
        files = {"model": (model_path, MODEL_SUFFIXES), "evaluation": (evaluation, DATASET_SUFFIXES)}
        if calibration is not None:
            files["calibration"] = (calibration, DATASET_SUFFIXES)
        for kind, (path, suffixes) in files.items():
            require_file(kind, path, suffixes)
        digests = {
            kind: self.upload(path, f"{kind}{path.suffix}", on_sent and partial(on_sent, path.name))
            for kind, (path, _) in files.items()
        }
        body = {
            "source": digests["model"],
            "evaluation": digests["evaluation"],
            "calibration": digests.get("calibration"),
            "config": dict(config or {}),
        }
        started = self._control.post(f"/v1/models/{quote(name, safe='')}/optimizations", body)
        return Optimization.read({"status": started}, self.control_url)

    def optimization(self, optimization_id: str) -> Optimization:
        """Say where an optimization stands."""
        found = self._control.get(f"/v1/optimizations/{quote(optimization_id, safe='')}")
        return Optimization.read(found, self.control_url)

    def optimizations(self, model: str | None = None) -> tuple[Optimization, ...]:
        """List optimizations, newest first."""
        found = self._control.items("/v1/optimizations", "optimizations", {"model": model})
        return tuple(Optimization.read({"status": status}, self.control_url) for status in found)

    def cancel(self, optimization_id: str) -> Optimization:
        """Stop an optimization; the best that its search has found until then is kept as an artifact.

        Raises:
            RemoteError: it has ended already (status 409), or the control API failed.
        """
        found = self._control.post(f"/v1/optimizations/{quote(optimization_id, safe='')}/cancel", {})
        return Optimization.read(found, self.control_url)

    def candidates(self, optimization_id: str) -> tuple[Candidate, ...]:
        """Return the candidates of an optimization that has a result."""
        found = self._control.get(f"/v1/optimizations/{quote(optimization_id, safe='')}/result")
        return tuple(Candidate.read(candidate, found["winner"]) for candidate in found["candidates"])

    def wait(
        self,
        optimization_id: str,
        on_update: Callable[[Optimization], None] | None = None,
        timeout_s: float | None = None,
    ) -> Optimization:
        """Wait until an optimization has finished; a refused gate and a failed run are values too.

        Raises:
            RemoteError: the control API failed, or the optimization did not finish within ``timeout_s``.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        last: Optimization | None = None
        while True:
            found = self.optimization(optimization_id)
            if on_update and found != last:
                on_update(found)
            if found.finished:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise RemoteError(f"the optimization {optimization_id} is still {found.state} after {timeout_s:.0f} s")
            last = found
            time.sleep(_POLL_S)

    def models(self, *, prefix: str | None = None, contains: str | None = None) -> tuple[Model, ...]:
        """List the models, by name, with what serves of each.

        Args:
            prefix: what their names begin with.
            contains: what their names hold anywhere.
        """
        filters = {"prefix": prefix, "contains": contains}
        return tuple(Model.read(found) for found in self._control.items("/v1/models", "models", filters))

    def versions(self, model: str) -> Versions:
        """List the versions of a model, oldest first."""
        pages = list(self._control.pages(f"/v1/models/{quote(model, safe='')}/versions", {}))
        found, versions = pages[-1], [version for page in pages for version in page["versions"]]
        route = found["route"] or {}
        return Versions(
            model=model,
            generation=route.get("generation"),
            champion=route.get("champion"),
            versions=tuple(Version.read(version) for version in versions),
            registry_unavailable=found["registry_unavailable"],
        )

    def predict(self, model: str, inputs: Mapping[str, Any], version: int | None = None) -> Prediction:
        """Ask a model: NumPy arrays by input name, or nested lists, which take the model's datatypes.

        Raises:
            InputError: the inputs do not fit the model.
            RemoteError: there is no such model or version, or the gateway failed.
        """
        tensors = importlib.import_module("burnish.tensors")
        path = f"/v2/models/{quote(model, safe='')}" + (f"/versions/{version}" if version is not None else "")
        arrays = {name: tensors.to_numpy(value) for name, value in inputs.items()}
        if not all(hasattr(array, "dtype") for array in arrays.values()):
            arrays = tensors.cast_lists(arrays, self._gateway.get(path))
        found = self._gateway.ask(f"{path}/infer", {"inputs": tensors.encode_inputs(arrays)})
        return Prediction(
            outputs=tensors.decode_outputs(found["outputs"]),
            model=found["model_name"],
            version=int(found["model_version"]),
            artifact=found["parameters"]["artifact"],
            request_id=found["parameters"]["request_id"],
        )

    def explain(self, request_id: str, model: str | None = None) -> Explanation:
        """Say what answered a captured request: version, recipe, gate, evaluation set, releases, feedback.

        Raises:
            InputError: the request was not captured (the message says why that may be), or the id is none.
            RemoteError: the control API failed.
        """
        params = {"request_id": request_id} | ({"model": model} if model else {})
        return Explanation.read(self._control.get("/v1/explain", params), self.control_url)

    def explain_artifact(self, sha256: str) -> Explanation:
        """Say what an artifact is, by its digest or the first digits of it: every version that is made of it.

        Raises:
            InputError: no version is.
            RemoteError: the control API failed.
        """
        return Explanation.read(self._control.get("/v1/explain", {"artifact": sha256}), self.control_url)

    def status(self) -> Status:
        """Say what the reconciler found last."""
        found = self._control.get("/v1/status")
        return Status(models=found["models"], mirrors=found["mirrors"], notes=tuple(found["notes"]))

    def monitor(self, model: str) -> FlowRun:
        """Start the flow that makes a drift report."""
        return FlowRun.read(self._control.post(f"/v1/models/{quote(model, safe='')}/monitor", {}))

    def drift_reports(self, model: str) -> tuple[DriftReport, ...]:
        """List the drift reports of a model, newest first."""
        found = self._control.items(f"/v1/models/{quote(model, safe='')}/drift", "reports", {})
        return tuple(DriftReport.read(report, self.control_url) for report in found)

    def retrain(self, model: str, trainer: str | None = None) -> FlowRun:
        """Start the flow that retrains a model."""
        return FlowRun.read(self._control.post(f"/v1/models/{quote(model, safe='')}/retrain", {"trainer": trainer}))

    def feedback(
        self, model: str, request_id: str, labels: Iterable[float] = (), *, score: float | None = None
    ) -> None:
        """Tell what became known of one request: the true answers, one a sample, or a score of it from 0 to 1."""
        told = {"labels": [float(label) for label in labels], "score": score}
        self._control.post("/v1/feedback", {"model": model, "request_id": request_id, **told})
