"""What the audit tells of a call: of whom, and in letters that every database keeps."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows import on_ledger
from flows.api_app import build_app
from registry.errors import ModelNotFound
from registry.records.audit import AuditEntry
from tests.unit.flows.api_stack import FakeStack, fake_stack


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    made = fake_stack(tmp_path)
    made.register("m")
    return made


@pytest.fixture
def api(stack: FakeStack) -> Iterator[TestClient]:
    with TestClient(build_app(stack.platform)) as client:
        yield client


def last_entry(stack: FakeStack) -> AuditEntry:
    return stack.platform.ledger.audit.entries(tenant=None, limit=1)[0]


def test_what_fails_for_a_tenant_that_is_not_there_yet_does_not_take_its_name(
    api: TestClient, stack: FakeStack
) -> None:
    assert api.post("/v1/keys?tenant=later", json={"scopes": ["deploy"]}).status_code == 404
    assert (last_entry(stack).tenant, last_entry(stack).outcome) == ("default", "404")
    with pytest.raises(ModelNotFound):
        on_ledger.make_key(stack.platform.ledger, stack.platform.key_ring, "later", ("deploy",), "")
    assert (last_entry(stack).tenant, last_entry(stack).outcome) == ("default", "ModelNotFound")
    assert api.post("/v1/tenants", json={"name": "later"}).status_code == 201


def test_what_databases_do_not_keep_is_refused_or_told_in_other_letters(api: TestClient, stack: FakeStack) -> None:
    for path, body in (
        ("keys", {"scopes": ["deploy"], "label": "a\0"}),
        ("feedback", {"model": "m", "request_id": "a\0", "score": 1}),
    ):
        assert api.post(f"/v1/{path}", json=body).status_code == 422
    assert api.delete("/v1/keys/%00").status_code == 422
    assert last_entry(stack).target == "DELETE /v1/keys/%00"
