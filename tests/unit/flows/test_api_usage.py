"""Usage is gathered from the workers and told by the hour; the reconciler tells the gateway what time has changed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from flows.api_app import build_app
from flows.api_reconciler import Reconciler
from flows.api_usage import gather
from flows.tenants import KEYS_FILE
from flows.workers import Workers
from registry.errors import RegistryError
from registry.records.tenant import Quotas, Scope
from tests.unit.flows.api_stack import FakeStack, fake_stack

COUNTED = {"requests": 7, "failed": 2, "compute_ns": 9, "received_bytes": 100, "sent_bytes": 50}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[FakeStack]:
    made = fake_stack(tmp_path)
    yield made
    made.platform.ledger.close()


def _worker(request: httpx.Request) -> httpx.Response:
    if request.url.host == "down":
        raise httpx.ConnectError("refused", request=request)
    if request.url.host == "odd":
        return httpx.Response(200, json={"boot": "b", "models": {"m": {"requests": -1}}})
    return httpx.Response(200, json={"worker": 0, "boot": "a", "models": {"m": COUNTED, "acme.m": COUNTED}})


def test_what_workers_count_is_added_once_and_told_to_whom_it_is_of(stack: FakeStack) -> None:
    http = httpx.Client(transport=httpx.MockTransport(_worker))
    workers = Workers(http, ["http://up", "http://down", "http://odd"], wait_s=0.1)
    stack.platform.ledger.tenants.add("acme", Quotas())
    for _ in range(2):
        gather(stack.platform.ledger, workers)
    made = stack.platform.key_ring.make("acme", (Scope.ADMIN,), "")
    with TestClient(build_app(stack.platform)) as api:
        everybody = api.get("/v1/usage").json()["usage"]
        mine = api.get("/v1/usage", headers={"x-api-key": made.text.get_secret_value()}).json()["usage"]
        ahead = api.get("/v1/usage", params={"since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z"}).json()
        wrong = [
            api.get("/v1/usage", params=params).status_code
            for params in (
                {"since": "0001-01-01T00:00:00Z"},
                {"until": "0001-01-01T00:00:00Z"},
                {"until": "9999-12-31T23:59:59-23:59"},
                {"since": "2020-01-01T00:00:00"},
            )
        ]
    assert [(one["tenant"], one["model"], one["requests"]) for one in everybody] == [
        ("acme", "m", 7),
        ("default", "m", 7),
    ]
    assert [{name: one[name] for name in COUNTED} for one in mine] == [COUNTED]
    assert (ahead["usage"], wrong) == ([], [422, 422, 422, 422])


def test_the_reconciler_drops_an_expired_key_and_tells_what_cannot_be_done(stack: FakeStack) -> None:
    platform = stack.platform
    made = platform.key_ring.make("default", (Scope.PREDICT,), "")
    file = platform.settings.gateway_folder / KEYS_FILE
    assert made.text.get_secret_value() in file.read_text()
    platform.ledger.keys.expire(made.key.id, datetime.now(UTC) - timedelta(seconds=1))
    further = (platform.key_ring.tell,)
    reconciler = Reconciler(
        platform.ledger, stack.store, platform.deployments, platform.settings.catalog_folder, further=further
    )
    reconciler.look()
    assert made.text.get_secret_value() not in file.read_text()
    file.write_text("{")
    assert any("damaged" in note for note in reconciler.look().notes)
    with pytest.raises(RegistryError, match="rotate the keys"):
        platform.key_ring.tell()
