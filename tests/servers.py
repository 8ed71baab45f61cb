"""Real servers, one of each a test run, on free loopback ports: S3, MLflow, Postgres; and databases to use up."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from benchmarks.control import postgres
from tests.integration.processes import end_tree, free_ports, wait_for

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class S3Server:
    """A running S3 server; ``data`` holds its buckets as folders."""

    url: str
    data: Path
    process: "subprocess.Popen[bytes]"

    def bucket(self) -> str:
        """Make a bucket of its own and return its name."""
        name = f"bucket-{uuid4().hex}"
        (self.data / name).mkdir(parents=True)
        return name


def start_s3(folder: Path) -> S3Server:
    """Start an S3 server that keeps its buckets in a folder."""
    (port,) = free_ports(1)
    command = [str(BIN / "localbucket"), str(folder), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(url), "the S3 server", 120)
    return S3Server(url, folder, process)


def answers(url: str) -> bool:
    """True if an HTTP server answers below this URL, whatever it says."""
    try:
        httpx.get(url, timeout=5)
    except httpx.TransportError:
        return False
    return True


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = start_s3(tmp_path_factory.mktemp("s3"))
    yield server
    end_tree(server.process)


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any credentials do: the test server checks none, but boto3 wants some."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    (port,) = free_ports(1)
    options = {
        "--backend-store-uri": f"sqlite:///{folder}/mlflow.db",
        "--default-artifact-root": f"{folder}/artifacts",
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
    }
    command = [
        str(BIN / "mlflow"),
        "server",
        "--no-serve-artifacts",
        *(text for pair in options.items() for text in pair),
    ]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={"PATH": f"{BIN}:/usr/bin:/bin", **environment}
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{url}/health"), "the MLflow server", 180)
        yield url
    finally:
        end_tree(process)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a Postgres server's own database; skips where Postgres is not installed."""
    if postgres.BIN is None:
        pytest.skip("needs the Debian package postgresql")
    with postgres.running(free_ports(1)[0], "fsync=off") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of this test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server: str = request.getfixturevalue("postgres_url")
    name = f"ledger_{uuid4().hex}"
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
    return server.rsplit("/", 1)[0] + f"/{name}"
