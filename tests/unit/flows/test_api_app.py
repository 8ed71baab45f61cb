from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows.api_app import build_app
from registry.errors import RegistryError
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return fake_stack(tmp_path)


@pytest.fixture
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform)) as client:
        yield client


def test_openapi_describes_the_raw_upload_and_every_path_is_below_v1(api: TestClient) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert all(path.startswith("/v1/") for path in paths)
    content = paths["/v1/artifacts/{filename}"]["put"]["requestBody"]["content"]
    assert set(content) == {"application/octet-stream"}


def test_docs_page_loads_nothing_from_elsewhere(api: TestClient) -> None:
    page = api.get("/docs").text
    assert "https://" not in page
    assert api.get("/docs/assets/swagger-ui-bundle.js").status_code == 200
    assert api.get("/docs/assets/swagger-ui.css").status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("DELETE", "/v1/models", 405)])
def test_unknown_paths_and_methods_are_problems_too(api: TestClient, method: str, path: str, status: int) -> None:
    answer = api.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert path in answer.json()["detail"]


def test_registry_error_is_500_with_its_message(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> int:
        raise RegistryError("the row is damaged")

    monkeypatch.setattr(stack.platform.ledger.listings, "count", damaged)
    answer = api.get("/v1/status")
    assert (answer.status_code, answer.json()["detail"]) == (500, "the row is damaged")
