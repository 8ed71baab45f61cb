"""A tenant's log: its own lines of the gateway's access log, in pages that lose and repeat nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows import api_logs
from flows.api_app import build_app
from registry.records.tenant import Quotas
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    made = fake_stack(tmp_path)
    made.platform.ledger.tenants.add("acme", Quotas())
    made.platform.settings.log_folder.mkdir()
    return made


@pytest.fixture
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform)) as client:
        yield client


def line(tenant: str | None, number: int) -> str:
    told = {"tenant": tenant, "path": f"/v2/models/acme/{number}", "status": 200, "worker": "127.0.0.1:8100"}
    return json.dumps(told) + "\n"


def paths(api: TestClient, limit: int = 100) -> list[int]:
    """All pages, one after another."""
    found: list[int] = []
    asked: dict[str, str | int] = {"tenant": "acme", "limit": limit}
    while True:
        page = api.get("/v1/logs", params=asked).raise_for_status().json()
        assert all(set(one) == {"path", "status"} for one in page["lines"])
        found += [int(one["path"].rpartition("/")[2]) for one in page["lines"]]
        if page["next"] is None:
            return found
        asked["cursor"] = page["next"]


@pytest.mark.parametrize("window", [300, 1000, 2**20])
def test_a_tenants_own_lines_newest_first_each_once(
    api: TestClient, stack: FakeStack, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(api_logs, "WINDOW_BYTES", window)
    owners = ("acme", "default", "acme-two", "acme:no-predict", None)
    text = "".join(line(owners[number % 5], number) for number in range(100))
    stack.platform.settings.access_log.write_text("acme { not a line\n" + text + line("acme", 100)[:-9])
    expected = list(range(95, -1, -5))
    assert paths(api) == expected
    assert paths(api, limit=3) == expected
    with stack.platform.settings.access_log.open("a") as log:
        log.write(line("acme", 100)[-9:])
    assert paths(api, limit=7) == [100, *expected]


def test_no_log_is_an_empty_one_and_a_cursor_of_another_log_is_refused(api: TestClient, stack: FakeStack) -> None:
    assert paths(api) == []
    log = stack.platform.settings.access_log
    log.write_text(line("acme", 1) + line("acme", 2))
    cursor = api.get("/v1/logs", params={"tenant": "acme", "limit": 1}).json()["next"]
    log.rename(log.with_name("older"))
    log.write_text(line("acme", 3))
    for wrong in (cursor, "bm8="):
        refused = api.get("/v1/logs", params={"tenant": "acme", "cursor": wrong})
        assert (refused.status_code, "cursor: " in refused.json()["detail"]) == (422, True)
