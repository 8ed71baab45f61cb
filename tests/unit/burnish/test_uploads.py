"""The client's uploads against the real application, over a network that cuts what it carries."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from burnish import uploads
from burnish.errors import InputError, RemoteError
from burnish.remote import Remote
from burnish.uploads import send_file
from flows.api_app import build_app
from tests.unit.burnish.bridge import CONTROL, Handler, answer_with, to_app
from tests.unit.flows.api_stack import FakeStack, fake_stack
from tests.uploads import ONNX

Cut = Callable[[httpx.Request, Handler], httpx.Response]


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path / "home")


@pytest.fixture
def network(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Cut], list[str]]]:
    """Put a network before the application; returns the methods that it carried."""
    monkeypatch.setattr(uploads, "PART_BYTES", 50)
    monkeypatch.setattr(uploads, "_CHUNK_BYTES", 20)
    monkeypatch.setattr("burnish.uploads.time.sleep", lambda _: None)
    with TestClient(build_app(stack.platform)) as api:

        def use(cut: Cut) -> list[str]:
            carried: list[str] = []
            app = to_app(api)

            def handler(request: httpx.Request) -> httpx.Response:
                carried.append(request.method)
                return cut(request, app)

            answer_with(monkeypatch, handler)
            return carried

        yield use


@pytest.fixture
def remote() -> Iterator[Remote]:
    made = Remote("the control API", CONTROL)
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(ONNX)
    return path


def parts() -> int:
    return -(-len(ONNX) // 50)


def test_a_file_is_sent_in_parts_and_its_progress_told(
    network: Callable[[Cut], list[str]], remote: Remote, stack: FakeStack, file: Path
) -> None:
    carried = network(lambda request, app: app(request))
    told: list[int] = []
    digest = send_file(remote, file, "model.onnx", lambda sent, size: told.append(sent))
    assert carried == ["POST"] + ["PATCH"] * parts()
    assert (stack.platform.artifacts.checkout(digest) / "model.onnx").read_bytes() == ONNX
    assert told == sorted(told)
    assert told[-1] == len(ONNX)


def test_a_cut_upload_goes_on_where_it_was_cut(
    network: Callable[[Cut], list[str]], remote: Remote, stack: FakeStack, file: Path
) -> None:
    """Every second part breaks off: of one some bytes came, of another all did and the answer was lost."""
    sent = 0

    def cut(request: httpx.Request, app: Handler) -> httpx.Response:
        nonlocal sent
        if request.method == "PATCH":
            sent += 1
            if sent % 4 == 1:
                app(httpx.Request("PATCH", request.url, headers=_without_length(request), content=request.content[:30]))
                raise httpx.WriteError("cut", request=request)
            if sent % 4 == 3:
                app(request)
                raise httpx.ReadError("cut", request=request)
        return app(request)

    carried = network(cut)
    digest = send_file(remote, file, "model.onnx")
    assert (stack.platform.artifacts.checkout(digest) / "model.onnx").read_bytes() == ONNX
    assert carried.count("POST") == 1
    assert carried.count("HEAD") >= parts() // 2


def _without_length(request: httpx.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name != "content-length"}


def test_a_lost_answer_to_the_beginning_begins_no_second_upload(
    network: Callable[[Cut], list[str]], remote: Remote, stack: FakeStack, file: Path
) -> None:
    def cut(request: httpx.Request, app: Handler) -> httpx.Response:
        answer = app(request)
        if request.method == "POST" and carried.count("POST") == 1:
            raise httpx.ReadError("cut", request=request)
        return answer

    carried = network(cut)
    send_file(remote, file, "model.onnx")
    assert carried.count("POST") == 2
    assert len(list((stack.platform.settings.home / "work" / "uploads").glob("*"))) == 1


def test_the_client_gives_up_when_nothing_arrives(
    network: Callable[[Cut], list[str]], remote: Remote, file: Path
) -> None:
    def cut(request: httpx.Request, app: Handler) -> httpx.Response:
        if request.method == "PATCH":
            raise httpx.WriteError("cut", request=request)
        return app(request)

    carried = network(cut)
    with pytest.raises(RemoteError, match="broke off"):
        send_file(remote, file, "model.onnx")
    assert carried.count("PATCH") == 6


def test_a_refused_upload_is_not_tried_again(
    network: Callable[[Cut], list[str]], remote: Remote, tmp_path: Path, file: Path
) -> None:
    carried = network(lambda request, app: app(request))
    with pytest.raises(InputError, match="not a whole zip archive"):
        send_file(remote, file, "model.pt2")
    assert carried.count("POST") == 1
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", tmp_path / "gone"):
        with pytest.raises(InputError, match=str(path)):
            send_file(remote, path, "model.onnx")
