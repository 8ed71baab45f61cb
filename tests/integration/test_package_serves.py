"""A version's Bento, built for real and served alone by `bentoml serve`."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from registry.errors import RegistryError
from serving.package import bento_tag, build_bento
from serving.settings import bento_environment
from tests.integration.processes import end_tree, free_ports
from tests.integration.versions import registered, write_model

WAIT_S = 180.0
IMAGE = [[[1.0, 2.0, 3.5], [0, -1, 4]]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BENTOML_HOME with version 7 of the model `tiny-`, built from a read-only artifact."""
    folder = tmp_path_factory.mktemp("bento")
    write_model(folder / "artifact")
    (folder / "artifact" / "model.onnx").chmod(0o444)
    assert build_bento(registered("tiny-", 7, folder / "artifact"), folder / "artifact", folder / "home") == TAG
    return folder / "home"


TAG = bento_tag("tiny-", 7)


@pytest.fixture(scope="module")
def served(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("empty")
    (port,) = free_ports(1)
    arguments = ["-m", "bentoml", "serve", TAG, "--host", "127.0.0.1", "--port", str(port)]
    log = (home / "serve.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-P", *arguments], cwd=folder, env=bento_environment(home), stdout=log, stderr=log
    )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
    try:
        deadline = time.monotonic() + WAIT_S
        while not ready(client):
            assert process.poll() is None, (home / "serve.log").read_text()
            assert time.monotonic() < deadline, (home / "serve.log").read_text()
            time.sleep(0.2)
        yield client
    finally:
        client.close()
        end_tree(process)
        log.close()


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_it_answers_and_says_what_answered(served: httpx.Client, home: Path) -> None:
    answer = served.post("/predict", json={"image": IMAGE, "in.put/1": [-128]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"doubled": [[[2.0, 4.0, 7.0], [0.0, -2.0, 8.0]]], "copy": [-128]}
    described = served.post("/describe", json={}).json()
    assert (described["model"], described["version"]) == ("tiny-", 7)
    assert answer.headers["x-burnish-model"] == "tiny-"
    assert answer.headers["x-burnish-version"] == "7"
    assert answer.headers["x-burnish-artifact"] == described["artifact"]["sha256"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": [[1.0, 2.0, 3.0]]}, "expected shape ['any', 2, 3], got [1, 3]"),
        ({"image": [[[1, 2, 3, 4, 5, 6]]]}, "got [1, 1, 6]"),
        ({"image": [[[1, 2], [3]]]}, "differ in length"),
        ({"image": []}, "got [0]"),
        ({"image": [[["1", "2", "3"], ["4", "5", "6"]]]}, "expected float32, got text"),
        ({"image": [[[True, True, True], [True, True, True]]]}, "expected float32, got bool"),
        ({"image": [[[1e300, 0, 0], [0, 0, 0]]]}, "not a finite float32"),
        ({"image": None}, "got null or mixed values"),
        ({"in.put/1": [1.0]}, "expected int8, got float64"),
        ({"in.put/1": [128]}, "outside the range of int8"),
        ({"other": [1]}, "Extra inputs"),
    ],
)
def test_a_wrong_type_or_shape_is_the_callers_error(served: httpx.Client, change: dict[str, Any], told: str) -> None:
    answer = served.post("/predict", json={"image": IMAGE, "in.put/1": [1], **change})
    assert answer.status_code == 400
    (problem,) = answer.json()["detail"]
    assert told in problem["msg"]


@pytest.mark.parametrize("body", ['{"image": [[[1, 2, 3], [4, 5, 6]]]}', '{"image": ', "[]", '{"image": NaN}'])
def test_a_missing_input_or_broken_json_is_the_callers_error(served: httpx.Client, body: str) -> None:
    answer = served.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_the_schema_comes_from_the_signature(served: httpx.Client) -> None:
    (predict,) = [route for route in served.get("/schema.json").json()["routes"] if route["name"] == "predict"]
    assert predict["input"]["properties"]["image"]["dtype"] == "float32"
    assert predict["input"]["properties"]["image"]["shape"] == [-1, 2, 3]
    assert predict["input"]["properties"]["in.put/1"]["dtype"] == "int8"
    assert set(predict["output"]["properties"]) == {"doubled", "copy"}


def test_building_again_changes_nothing(home: Path, tmp_path: Path) -> None:
    folder = home.parent / "artifact"
    built = home / "bentos" / TAG.partition(":")[0] / "v7" / "bento.yaml"
    before = built.stat().st_mtime_ns
    assert build_bento(registered("tiny-", 7, folder), folder, home) == TAG
    assert built.stat().st_mtime_ns == before


def test_the_bento_requires_the_runtimes_library_alone_in_the_installed_version(home: Path) -> None:
    bento = home / "bentos" / TAG.partition(":")[0] / "v7"
    lines = (bento / "env" / "python" / "requirements.txt").read_text().split()
    names = {line.partition("==")[0] for line in lines}
    assert {"bentoml", "numpy", "onnxruntime", "pydantic"} <= names
    assert not {"torch", "openvino", "mlflow", "prefect"} & names
    assert all("==" in line for line in lines)
    assert yaml.safe_load((bento / "bento.yaml").read_text())["labels"]["model"] == "tiny-"
    assert json.loads((bento / "src" / "version.json").read_text())["versions"][0]["version"] == 7


def test_what_cannot_be_built_leaves_no_bento(tmp_path: Path) -> None:
    write_model(tmp_path / "artifact")
    version = registered("tiny", 1, tmp_path / "artifact")
    nameless = version.served.signature.model_copy(update={"outputs": ()})
    broken = version.model_copy(update={"draft": version.draft.model_copy(update={"signature": nameless})})
    with pytest.raises(RegistryError, match="could not build version 1 of tiny"):
        build_bento(broken, tmp_path / "artifact", tmp_path / "home")
    assert not list((tmp_path / "home").glob("bentos/*"))
    assert not list((tmp_path / "home").glob(".build-*"))
