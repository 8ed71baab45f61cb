"""The control API as its own process, against a real Prefect server; MLflow and the engine are down."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest

from burnish.client import Client
from burnish.errors import InputError, RemoteError
from flows.settings import StackSettings
from registry.ledger.ledger import Ledger
from registry.records.model import ModelVersion
from registry.records.optimization import OptimizationRequest
from serving.engine.catalog import read_entry
from tests import uploads
from tests.integration.processes import end_tree, free_ports, wait_for
from tests.unit.flows.api_stack import draft

UPLOAD_MIB = 192


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StackSettings:
    control, prefect, mlflow, door = free_ports(4)
    made = StackSettings(
        home=tmp_path_factory.mktemp("stack"),
        control_port=control,
        prefect_port=prefect,
        mlflow_port=mlflow,
        door_port=door,
        workers=1,
    )
    ledger = Ledger(made.ledger_database)
    ledger.migrate()
    for number in (1, 2):
        version = ModelVersion(version=number, created_at=datetime.now(UTC), draft=draft("digits", f"{number:032x}"))
        ledger.admit("digits", version.served)
    ledger.close()
    return made


@pytest.fixture(scope="module")
def environment(settings: StackSettings) -> dict[str, str]:
    named = settings.model_dump(include={"home", "control_port", "prefect_port", "mlflow_port", "door_port", "workers"})
    own = {f"BURNISH_{name.upper()}": str(value) for name, value in named.items()}
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_CLI_PROMPT": "false"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BURNISH_", "PREFECT_"))}
    return inherited | own | quiet | {"PREFECT_HOME": str(settings.home / "prefect")}


@pytest.fixture(scope="module")
def prefect(settings: StackSettings, environment: dict[str, str]) -> Iterator[httpx.Client]:
    """A Prefect server with the deployment `optimize`, as the runner would have made it."""
    command = [sys.executable, "-m", "prefect", "server", "start"]
    port = ["--host", settings.host, "--port", str(settings.prefect_port)]
    with (settings.home / "prefect.log").open("wb") as log:
        server = subprocess.Popen([*command, *port], env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"{settings.prefect_url}/api", timeout=60, trust_env=False) as api:
            wait_for(lambda: answers(api, "/health"), "Prefect", seconds=180)
            flow = sent(api, "POST", "/flows/", {"name": "optimize"}).json()["id"]
            request = OptimizationRequest.model_json_schema(ref_template="#/definitions/{model}")
            parameters = {"type": "object", "properties": {"request": request}, "definitions": request.pop("$defs")}
            deployment = {"name": "optimize", "flow_id": flow, "parameter_openapi_schema": parameters}
            sent(api, "POST", "/deployments/", deployment)
            yield api
    finally:
        end_tree(server)


@pytest.fixture(scope="module")
def control(settings: StackSettings, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "flows.api:create_app", "--port"]
    with (settings.home / "control.log").open("wb") as log:
        process = subprocess.Popen([*command, str(settings.control_port)], env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=settings.control_url, trust_env=False) as api:
            wait_for(lambda: answers(api, "/v1/health"), "the control API", seconds=180)
        yield process
    finally:
        end_tree(process)


@pytest.fixture
def client(settings: StackSettings, control: subprocess.Popen[bytes]) -> Iterator[Client]:
    assert control.poll() is None
    with Client(settings.control_url, settings.gateway_url) as made:
        yield made


def sent(api: httpx.Client, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
    """Ask again while Prefect's database is busy: it answers 503 then, and Prefect's own client tries again too."""
    answered: list[httpx.Response] = []

    def accepted() -> bool:
        answered.append(api.request(method, path, json=body))
        return answered[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

    wait_for(accepted, f"Prefect to take {path}", seconds=60)
    return answered[-1].raise_for_status()


def answers(api: httpx.Client, path: str) -> bool:
    try:
        return api.get(path).is_success
    except httpx.TransportError:
        return False


def peak_mib(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def large_model(path: Path, size: int) -> None:
    """Write a model with one weight of so many zeros."""
    tensor = onnx.TensorProto(name="large", dims=[size]).SerializeToString() + bytes([9 << 3 | 2]) + varint(size)
    graph = bytes([5 << 3 | 2]) + varint(len(tensor) + size) + tensor
    head = bytes([7 << 3 | 2]) + varint(len(graph) + size) + graph
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + size)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def test_a_large_upload_is_streamed_and_refused_with_the_wrong_digest(
    client: Client, control: subprocess.Popen[bytes], settings: StackSettings, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    large_model(path, UPLOAD_MIB * 2**20)
    before = peak_mib(control)
    digest = client.upload(path, "model.onnx")
    assert peak_mib(control) - before < UPLOAD_MIB / 3
    assert len(digest) == 64
    answer = httpx.put(
        f"{settings.control_url}/v1/artifacts/model.pt2",
        content=b"other bytes",
        headers={"x-content-sha256": "0" * 64},
        trust_env=False,
    )
    assert answer.status_code == 422
    kept = [path.name for path in (settings.home / "work" / "uploads").rglob("*") if path.is_file()]
    assert kept == ["session.json"]  # for who missed the answer of the one that was taken


def test_promotions_at_once_give_one_success_and_one_conflict_with_mlflow_down(
    client: Client, settings: StackSettings
) -> None:
    first = client.promote("digits", 1)
    assert first.pending == (0,)

    def promote(_: int) -> int:
        try:
            return client.promote("digits", 2, expected_generation=first.generation).generation
        except RemoteError as error:
            return -error.status

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(promote, range(2))) == [-409, first.generation + 1]
    assert read_entry(settings.catalog_folder / "digits.json").generation == first.generation + 1
    found = client.versions("digits")
    assert (found.champion, [version.number for version in found.versions]) == (2, [1, 2])
    assert "does not answer" in str(found.registry_unavailable)
    wait_for(lambda: client.status().mirrors.startswith("cannot be looked at"), "the reconciler's note", 120)
    assert any("model store cannot be looked at" in note for note in client.status().notes)


def test_an_optimization_is_started_in_prefect_followed_and_closed_when_its_run_crashes(
    client: Client, prefect: httpx.Client, settings: StackSettings, tmp_path: Path
) -> None:
    files = {"model": tmp_path / "net.onnx", "evaluation": tmp_path / "set.npz"}
    for path in files.values():
        path.write_bytes(uploads.BY_SUFFIX[path.suffix])
    started = client.push_files(files["model"], "digits", files["evaluation"], config={"policy": "min_size"})
    seen = client.optimization(started.id)
    assert (seen.state, seen.flow_run_state) == ("queued", "Scheduled")
    assert seen.flow_run_url is not None
    assert seen.flow_run_url.startswith(f"{settings.prefect_url}/runs/flow-run/")
    run = prefect.get(f"/flow_runs/{seen.flow_run_url.rsplit('/', 1)[1]}").json()
    assert run["idempotency_key"] == started.id
    assert run["parameters"]["request"]["config"]["policy"] == "min_size"

    crashed = {"state": {"type": "CRASHED", "name": "Crashed"}, "force": True}
    sent(prefect, "POST", f"/flow_runs/{run['id']}/set_state", crashed)
    ended = client.wait(started.id, timeout_s=120)
    assert ended.state == "failed"
    assert "its flow run ended as Crashed" in ended.message


def test_parameters_that_prefect_refuses_are_an_input_error(
    client: Client, prefect: httpx.Client, tmp_path: Path
) -> None:
    deployment = prefect.get("/deployments/name/optimize/optimize").json()["id"]
    other = {"type": "object", "properties": {"request": {"type": "string"}}, "required": ["request"]}
    changed = {"parameter_openapi_schema": other, "enforce_parameter_schema": True}
    sent(prefect, "PATCH", f"/deployments/{deployment}", changed)
    for name in ("net.onnx", "set.npz"):
        (tmp_path / name).write_bytes(uploads.BY_SUFFIX[Path(name).suffix])
    with pytest.raises(InputError, match="refuses its parameters"):
        client.push_files(tmp_path / "net.onnx", "digits", tmp_path / "set.npz")
    assert client.optimizations("digits")[0].state == "invalid"


def test_the_command_line_releases_on_the_ledger_when_the_control_api_is_down(
    settings: StackSettings, environment: dict[str, str]
) -> None:
    (free,) = free_ports(1)
    program = "import sys; from burnish.cli.main import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-P", "-c", program, "promote", "digits"]
    elsewhere = environment | {"BURNISH_CONTROL_PORT": str(free)}
    ledger = Ledger(settings.ledger_database)
    route = ledger.route("digits")
    target = 1 if route is None or route.champion == 2 else 2
    done = subprocess.run(
        [*command, str(target)], env=elsewhere, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "working on the ledger itself" in done.stderr
    after = ledger.route("digits")
    ledger.close()
    assert after is not None
    assert after.champion == target
    assert read_entry(settings.catalog_folder / "digits.json").generation == after.generation
