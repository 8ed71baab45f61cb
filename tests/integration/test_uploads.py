"""Uploads over real connections to a real server whose home is a small disk of its own."""

import shutil
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from burnish.client import Client
from burnish.errors import InputError, RemoteError
from flows.api_app import build_app
from tests.integration.processes import free_ports, wait_for
from tests.unit.flows.api_stack import fake_stack
from tests.unit.flows.test_api_upload_sessions import begin, metadata, send
from tests.unit.registry.uploads.models import WEIGHTS, model
from tests.unit.registry.uploads.zips import zipped
from tests.uploads import ONNX

MIB = 2**20
DISK_MIB = 16


def padded(mib: int) -> bytes:
    """A model with so much metadata."""
    field = bytes([14 << 3 | 2, *(mib << 20 >> shift & 127 | 128 for shift in (0, 7, 14)), mib >> 1])
    return ONNX + field + bytes(mib * MIB)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    if shutil.which("mount") is None:
        pytest.skip("needs mount, of util-linux")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    app = build_app(fake_stack(home).platform)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the control API")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def api(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False, timeout=30, headers={"tus-resumable": "1.0.0"}) as client:
        yield client


def connected(url: str, head: str) -> socket.socket:
    """A connection on which the head of a request was sent."""
    parts = httpx.URL(url)
    connection = socket.create_connection((parts.host, parts.port), timeout=20)
    connection.sendall(f"{head}\r\nHost: x\r\n\r\n".encode())
    return connection


def kept_bytes(home: Path) -> int:
    """What uploads and artifacts take of the disk."""
    folders = (home / "work" / "uploads", home / "artifacts")
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [10_000_000_000, 100 * MIB])
def test_what_declares_too_much_is_answered_before_a_byte_is_sent(
    url: str, api: httpx.Client, home: Path, size: int
) -> None:
    before = kept_bytes(home)
    status = 413 if size > 8 * 2**30 else 507
    with connected(url, f"PUT /v1/artifacts/model.onnx HTTP/1.1\r\nContent-Length: {size}") as connection:
        answer = connection.recv(65536).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert "application/problem+json" in answer
    headers = {"upload-length": str(size), "upload-metadata": metadata(filename="model.onnx")}
    assert api.post("/v1/uploads", headers=headers).status_code == status
    assert kept_bytes(home) == before


def test_a_cut_connection_leaves_nothing(url: str, home: Path) -> None:
    before = kept_bytes(home)
    with connected(url, f"PUT /v1/artifacts/model.onnx HTTP/1.1\r\nContent-Length: {MIB}") as connection:
        connection.sendall(bytes(MIB // 2))
        wait_for(lambda: kept_bytes(home) > before, "the bytes that were sent")
    wait_for(lambda: kept_bytes(home) == before, "the end of the upload")


def test_an_upload_goes_on_while_the_server_still_waits_on_the_connection_that_was_lost(
    url: str, api: httpx.Client, home: Path
) -> None:
    before, content = kept_bytes(home), padded(1)
    address = begin(api, len(content)).headers["location"]  # type: ignore[arg-type]
    head = f"PATCH {address} HTTP/1.1\r\nUpload-Offset: 0\r\nContent-Length: {len(content)}\r\nTus-Resumable: 1.0.0"
    with connected(url, f"{head}\r\nContent-Type: application/offset+octet-stream") as lost:
        lost.sendall(content[: MIB // 2])
        wait_for(lambda: kept_bytes(home) > before + MIB // 4, "the bytes that were sent")
        offset = int(api.head(address).headers["upload-offset"])
        assert MIB // 4 < offset <= MIB // 2
        assert lost.recv(65536).startswith(b"HTTP/1.1 409 ")
        assert send(api, address, offset, content[offset:]).headers["x-burnish-artifact"]  # type: ignore[arg-type]
    assert kept_bytes(home) > before + MIB


def pieces(content: bytes) -> Iterator[bytes]:
    """A body whose length is not told."""
    yield from (content[start : start + MIB] for start in range(0, len(content), MIB))


@pytest.mark.parametrize("size_mib", [40, 10], ids=["while it comes", "while it is stored"])
def test_a_disk_that_gets_full_is_507_and_nothing_is_left(api: httpx.Client, home: Path, size_mib: int) -> None:
    before = kept_bytes(home)
    answer = api.put("/v1/artifacts/model.onnx", content=pieces(padded(size_mib)))
    assert (answer.status_code, answer.json()["type"]) == (507, "urn:burnish:insufficient-storage")
    assert kept_bytes(home) == before
    assert api.put("/v1/artifacts/model.onnx", content=ONNX).status_code == 200


def test_a_bundle_that_finds_no_room_to_be_unpacked_is_507_and_nothing_is_left(api: httpx.Client, home: Path) -> None:
    before = kept_bytes(home)
    content = model(location=WEIGHTS).SerializeToString()
    body = zipped({"model.onnx": content, WEIGHTS: bytes(20 * MIB)}, zipfile.ZIP_DEFLATED)
    answer = api.put("/v1/artifacts/model.zip", content=body)
    assert answer.status_code == 507
    assert kept_bytes(home) == before


def test_the_client_says_what_was_wrong(url: str, home: Path, tmp_path: Path) -> None:
    before = kept_bytes(home)
    path = tmp_path / "net.onnx"
    with path.open("wb") as stream:
        stream.truncate(50 * MIB)
    with Client(url, url) as client:
        with pytest.raises(RemoteError, match=r"answered 507: .* bytes do not fit"):
            client.upload(path, "model.onnx")
        path.write_bytes(b"hello")
        with pytest.raises(InputError, match=r"model\.onnx cannot be taken: the file is not an ONNX model"):
            client.upload(path, "model.onnx")
        path.write_bytes(padded(5))
        first = client.upload(path, "model.onnx")
        with_it = kept_bytes(home)
        path.write_bytes(ONNX)
        assert client.upload(path, "model.onnx") != first
    assert with_it - before > 5 * MIB
