"""What MLflow and its users see of a registered version, and what a crash or an outage leaves."""

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import onnxruntime
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from registry.errors import InputError, ModelNotFound, RegistryError, TransientError
from registry.model_card import model_card
from registry.records.model import ArtifactFormat, ArtifactRef, ModelVersion, VersionDraft
from registry.store.base import CHAMPION
from registry.store.location import ArtifactLocation
from registry.store.mlflow import MlflowStore
from tests.drafts import draft
from tests.integration.processes import free_ports
from tests.integration.versions import SIGNATURE, write_model

SPAWN = multiprocessing.get_context("spawn")

# Run in a process of its own, away from the checkout, as a user of MLflow would.
PREDICT = """
import json, sys
import mlflow, numpy, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
image, other = numpy.arange(12, dtype="float32").reshape(2, 2, 3), numpy.array([1, 2], dtype="int8")
found = model.predict({"image": image, "in.put/1": other})
frame = pandas.DataFrame({"image": [row.ravel() for row in image], "in.put/1": other})
answers = (found, model.predict(frame))
print(json.dumps([{name: value.tolist() for name, value in answer.items()} for answer in answers]))
"""


@pytest.fixture
def location(tmp_path: Path) -> ArtifactLocation:
    return ArtifactLocation(folder=tmp_path / "artifacts")


@pytest.fixture
def store(mlflow_url: str, location: ArtifactLocation) -> MlflowStore:
    return MlflowStore(mlflow_url, location)


@pytest.fixture
def client(mlflow_url: str) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_url)


@pytest.fixture
def name() -> str:
    return f"model-{uuid4().hex}"


@pytest.fixture
def onnx_draft(name: str, location: ArtifactLocation, tmp_path: Path) -> VersionDraft:
    """A draft whose artifact is a real ONNX model in the artifact store."""
    write_model(tmp_path / "onnx")
    digest = location.open().put(tmp_path / "onnx")
    reference = ArtifactRef(sha256=digest, format=ArtifactFormat.ONNX, size_bytes=location.open().size_bytes(digest))
    return draft(name, "one", artifact=reference).model_copy(update={"signature": SIGNATURE})


def predict(mlflow_url: str, model: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREDICT, mlflow_url, f"models:/{model}@{CHAMPION}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_the_champion_loads_with_mlflow_and_predicts_what_the_artifact_computes(
    store: MlflowStore, onnx_draft: VersionDraft, mlflow_url: str, tmp_path: Path
) -> None:
    version = store.register(onnx_draft)
    store.set_alias(version.model, CHAMPION, version.version)
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = {
        "image": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        "in.put/1": np.array([1, 2], dtype=np.int8),
    }
    expected = dict(zip(("doubled", "copy"), (value.tolist() for value in session.run(None, inputs)), strict=True))
    answer = predict(mlflow_url, version.model, tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1]) == [expected, expected]


def test_damaged_bytes_are_not_loaded_by_mlflow(
    store: MlflowStore, onnx_draft: VersionDraft, location: ArtifactLocation, mlflow_url: str, tmp_path: Path
) -> None:
    version = store.register(onnx_draft)
    store.set_alias(version.model, CHAMPION, version.version)
    file = location.open().checkout(onnx_draft.artifact.sha256) / "model.onnx"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b"\0")
    answer = predict(mlflow_url, version.model, tmp_path)
    assert answer.returncode != 0
    assert "RegistryError: artifact" in answer.stderr
    assert "model.onnx has sha256" in answer.stderr


def test_mlflow_shows_figures_recipe_card_and_report(
    store: MlflowStore, client: MlflowClient, location: ArtifactLocation, name: str, tmp_path: Path
) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "report.html").write_text("<h1>why</h1>")
    report = location.open().put(tmp_path / "page")
    made = draft(name, "one").model_copy(update={"report": report})
    store.register(made)
    stored = client.get_model_version(name, "1")
    assert stored.description == model_card(made)
    tags = {"burnish.artifact": "a" * 64, "burnish.evaluation_set": "e" * 64, "burnish.gate": "fidelity: pass"}
    assert tags.items() <= stored.tags.items()
    assert {"burnish.source": "5" * 64, "burnish.parent_version": "1"}.items() <= stored.tags.items()
    run = client.get_run(str(stored.run_id))
    figure = "latency_p50_ms_batch_1"
    assert run.data.metrics == {figure: 1 / 3, f"{figure}_low": 0.1 + 0.2, f"{figure}_high": 0.5}
    assert run.data.params["recipe"] == "export_onnx > quantize_static_int8(method=minmax)"
    assert run.info.status == "FINISHED"
    files = {file.path for folder in ("model", "report") for file in client.list_artifacts(run.info.run_id, folder)}
    model_files = {f"model/{file}" for file in ("MLmodel", "model_card.md", "pointer.json", "version.json")}
    assert files == model_files | {"report/report.html"}


def test_an_attachment_is_kept_with_the_run(
    store: MlflowStore, client: MlflowClient, name: str, tmp_path: Path
) -> None:
    store.register(draft(name, "one"))
    (tmp_path / "drift").mkdir()
    (tmp_path / "drift" / "drift.html").write_text("<p>none</p>")
    store.attach(name, 1, "drift", tmp_path / "drift")
    stored = client.get_model_version(name, "1")
    assert stored.tags["burnish.attachment.drift"] == "attachments/drift"
    kept = client.download_artifacts(str(stored.run_id), "attachments/drift/drift.html", str(tmp_path))
    assert Path(kept).read_text() == "<p>none</p>"


def test_a_registration_that_dies_before_its_last_step_leaves_no_version(
    store: MlflowStore, client: MlflowClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_model_version", die)
        with pytest.raises(KeyboardInterrupt):
            store.register(draft(name, "one"))
    assert store.versions(name) == ()
    assert name not in store.models()
    assert store.register(draft(name, "one")).version == 1
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1


def _register(url: str, location: ArtifactLocation, model: str, ids: tuple[str, ...]) -> None:
    store = MlflowStore(url, location)
    for each in ids:
        store.register(draft(model, each))


def test_two_processes_registering_at_once_lose_nothing(
    store: MlflowStore, mlflow_url: str, location: ArtifactLocation, name: str
) -> None:
    shares = (("a1", "a2", "both"), ("b1", "b2", "both"))
    processes = [SPAWN.Process(target=_register, args=(mlflow_url, location, name, ids)) for ids in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [0, 0]
    ids = [version.draft.optimization_id for version in store.versions(name)]
    assert sorted(ids) == ["a1", "a2", "b1", "b2", "both"]


def test_figures_that_another_process_logs_at_the_same_moment_do_not_end_a_registration(
    store: MlflowStore, client: MlflowClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_batch = MlflowClient.log_batch
    refusals = ["UNIQUE constraint failed: params.key, params.run_uuid"]

    def log_after_the_other(self: MlflowClient, run_id: str, metrics: list[Metric], params: list[Param]) -> None:
        log_batch(self, run_id, metrics, params)
        if refusals:
            raise MlflowException(refusals.pop(), error_code=BAD_REQUEST)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", log_after_the_other)
        version = store.register(draft(name, "one"))
    assert (version.version, refusals) == (1, [])
    assert client.get_run(str(client.get_model_version(name, "1").run_id)).info.status == "FINISHED"


def test_a_record_changed_in_mlflow_is_refused(store: MlflowStore, client: MlflowClient, name: str) -> None:
    version: ModelVersion = store.register(draft(name, "one"))
    forged = version.draft.model_copy(update={"evaluation_set": "0" * 64})
    client.set_model_version_tag(name, "1", "burnish.draft", forged.model_dump_json())
    with pytest.raises(RegistryError, match="changed in MLflow"):
        store.version(name, 1)


def test_a_version_that_somebody_else_put_there_is_not_ours(
    store: MlflowStore, client: MlflowClient, name: str
) -> None:
    client.create_registered_model(name)
    info = client.create_run("0").info
    client.create_model_version(name, source=str(info.artifact_uri), run_id=info.run_id, await_creation_for=0)
    assert (store.versions(name), name in store.models()) == ((), False)
    with pytest.raises(ModelNotFound, match="not by Burnish"):
        store.version(name, 1)
    assert store.register(draft(name, "one")).version == 2
    assert name in store.models()


def test_a_stopped_server_is_a_transient_error(location: ArtifactLocation, name: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    store = MlflowStore(f"http://127.0.0.1:{port}", location)
    calls = (
        lambda: store.register(draft(name, "one")),
        lambda: store.version(name, 1),
        lambda: store.versions(name),
        store.models,
        lambda: store.alias(name, CHAMPION),
        lambda: store.set_alias(name, CHAMPION, 1),
        lambda: store.attach(name, 1, "drift", tmp_path),
    )
    for call in calls:
        with pytest.raises(TransientError, match=f"127.0.0.1:{port} did not answer"):
            call()


def test_a_name_that_mlflow_cannot_keep_is_an_input_error(store: MlflowStore, name: str, tmp_path: Path) -> None:
    store.register(draft(name, "one"))
    with pytest.raises(InputError, match="outside"):
        store.attach(name, 1, "../outside", tmp_path)
    with pytest.raises(InputError, match="it's"):
        store.register(draft(name, "it's"))


def test_what_mlflow_refuses_is_a_registry_error(store: MlflowStore, client: MlflowClient, name: str) -> None:
    experiment_id = client.create_experiment(name)
    client.delete_experiment(experiment_id)
    with pytest.raises(RegistryError, match="refused"):
        store.register(draft(name, "one"))
