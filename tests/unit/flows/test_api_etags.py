from pathlib import Path

import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient

from flows import api_etags
from flows.api_app import build_app
from registry.errors import InputError, VersionConflict
from registry.records.tenant import Quotas, TenantState
from tests.unit.flows.api_stack import fake_stack


@pytest.mark.parametrize(
    ("if_match", "body", "expected"),
    [
        (None, None, None),
        (None, 3, 3),
        ('"7"', None, 7),
        ('"6", "7"', None, 7),
        ('"7-abc123"', None, 7),
        ("*", None, 7),
        ('"7"', 7, 7),
    ],
)
def test_what_the_caller_has_seen_is_the_generation_to_replace(
    if_match: str | None, body: int | None, expected: int | None
) -> None:
    assert api_etags.expected(if_match, body, current=7) == expected


@pytest.mark.parametrize("if_match", ['"6"', 'W/"7"', "7", '"seven"', '"7-"', '""', '"99999999999999999999"'])
def test_a_tag_that_is_not_the_routes_is_412(if_match: str) -> None:
    with pytest.raises(HTTPException) as caught:
        api_etags.expected(if_match, None, current=7)
    assert caught.value.status_code == 412


def test_any_tag_matches_no_route_that_is_not_there() -> None:
    with pytest.raises(HTTPException, match="412"):
        api_etags.expected("*", None, current=0)
    assert api_etags.expected('"0"', None, current=0) == 0


def test_header_and_body_that_expect_different_generations_are_refused() -> None:
    with pytest.raises(InputError, match="give one of the two"):
        api_etags.expected('"7"', 6, current=7)


def test_a_lost_race_is_412_only_for_those_who_sent_a_tag() -> None:
    with pytest.raises(HTTPException, match="another won"), api_etags.precondition('"7"'):
        raise VersionConflict("another won")
    with pytest.raises(VersionConflict), api_etags.precondition(None):
        raise VersionConflict("another won")


def test_a_tenant_is_sent_once_and_changed_only_by_who_has_seen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = fake_stack(tmp_path)
    api = TestClient(build_app(stack.platform))
    stack.platform.ledger.tenants.add("tagged", Quotas())
    first = api.get("/v1/tenants/tagged").headers["etag"]
    again = api.get("/v1/tenants/tagged", headers={"If-None-Match": first})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first)
    quotas, state = "/v1/tenants/tagged/quotas", "/v1/tenants/tagged/state"
    won = api.put(quotas, json={"models": 3}, headers={"If-Match": first})
    second = won.headers["etag"]
    assert (won.status_code, won.json()["tenant"]["quotas"]["models"], second != first) == (200, 3, True)
    assert api.get("/v1/tenants/tagged", headers={"If-None-Match": first}).headers["etag"] == second
    stack.platform.ledger.tenants.own("tagged", "d" * 64, 1)
    more = api.get("/v1/tenants/tagged", headers={"If-None-Match": second})
    assert (more.status_code, more.headers["etag"] != second) == (200, True)
    for stale in (first, f"W/{second}", '"7"', "nothing"):
        for path, body in ((quotas, {"models": 9}), (state, {"state": "blocked"})):
            refused = api.put(path, json=body, headers={"If-Match": stale})
            assert (refused.status_code, refused.json()["type"]) == (412, "urn:burnish:precondition-failed")
    found = stack.platform.ledger.tenants.get("tagged")
    assert (found.quotas, found.state) == (Quotas(models=3), TenantState.OPEN)
    # What holds less or more is the same tenant: who has seen its quotas and state may change them.
    taken = api.put(state, json={"state": "draining"}, headers={"If-Match": f"{first}, {second}"})
    assert (taken.status_code, taken.json()["tenant"]["state"]) == (200, "draining")
    assert api.put(state, json={"state": "open"}, headers={"If-Match": "*"}).status_code == 200
    # Another is first between the look and the change.
    monkeypatch.setattr(stack.platform.ledger.tenants, "get", lambda name: found)
    stack.platform.ledger.tenants.set_quotas("tagged", Quotas(models=4))
    lost = api.put(state, json={"state": "blocked"}, headers={"If-Match": second})
    assert (lost.status_code, "changed by another" in lost.json()["detail"]) == (412, True)
