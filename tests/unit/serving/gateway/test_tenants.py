import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from registry.errors import InputError
from registry.records.tenant import Scope, TenantState
from serving.gateway.access import access, limits
from serving.gateway.admission import GatewayTenants
from serving.gateway.plan import Endpoint, GatewayPlan
from serving.gateway.state import STATE_FILE, read_state
from serving.gateway.tenants import GatewayKey, GatewayTenant, set_tenants, switch_tenant

PLAN = GatewayPlan(
    port=8000, admin_port=8002, workers=(Endpoint(host="::1", port=1),), access_log=Path("a"), max_body_bytes=1000
)


def key(number: int, text: str | None = None) -> GatewayKey:
    plain = SecretStr(text or f"bn_{number:012x}_{'s' * 43}")
    return GatewayKey(id=f"{number:012x}", key=plain, scopes=(Scope.PREDICT,))


def buckets(*tenants: GatewayTenant) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = limits(GatewayTenants(tenants=tenants), PLAN)["resources"][0]["typed_config"][
        "descriptors"
    ]
    return found


def test_tenants_may_be_told_before_a_gateway_is_configured(tmp_path: Path) -> None:
    tenants = (GatewayTenant(name="default"), GatewayTenant(name="acme", keys=(key(1),), requests_per_s=5.0))
    set_tenants(tmp_path, tenants, require_keys=True)
    assert read_state(tmp_path).admission == GatewayTenants(require_keys=True, tenants=tenants)
    assert {path.name for path in tmp_path.iterdir()} == {STATE_FILE, "gateway.lock"}


def test_a_key_shows_itself_to_nobody() -> None:
    assert "ssss" not in repr(GatewayTenant(name="acme", keys=(key(1),)))


@pytest.mark.parametrize(
    ("tenants", "message"),
    [
        ((GatewayTenant(name="acme"), GatewayTenant(name="acme")), "acme more often"),
        (
            tuple(GatewayTenant(name=f"t{number}", keys=(key(number, "k" * 20),)) for number in (1, 2)),
            "000000000001, 000000000002 are the same text",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_the_last_state_stays(
    tmp_path: Path, tenants: tuple[GatewayTenant, ...], message: str
) -> None:
    set_tenants(tmp_path, (GatewayTenant(name="first"),), require_keys=False)
    before = (tmp_path / STATE_FILE).read_bytes()
    with pytest.raises(InputError, match=message):
        set_tenants(tmp_path, tenants, require_keys=False)
    assert (tmp_path / STATE_FILE).read_bytes() == before


@pytest.mark.parametrize("by_ledger", list(TenantState))
@pytest.mark.parametrize("by_hand", list(TenantState))
def test_the_stricter_of_ledger_and_hand_holds(tmp_path: Path, by_ledger: TenantState, by_hand: TenantState) -> None:
    set_tenants(tmp_path, (GatewayTenant(name="acme", state=by_ledger),), require_keys=False)
    switch_tenant(tmp_path, "acme", by_hand)
    order = [TenantState.OPEN, TenantState.DRAINING, TenantState.BLOCKED]
    assert read_state(tmp_path).admitted().tenants[0].state is max(by_ledger, by_hand, key=order.index)


def test_a_plan_that_requires_keys_has_the_last_word(tmp_path: Path) -> None:
    state = read_state(tmp_path).model_copy(update={"plan": PLAN.model_copy(update={"require_keys": True})})
    assert state.admitted().require_keys
    assert '"key": "none"' not in json.dumps(access(state.admitted()))


@pytest.mark.parametrize(
    ("tenant", "wanted"),
    [
        (GatewayTenant(name="a"), []),
        (GatewayTenant(name="a", requests_per_s=20), [("requests", 20, 20, "1.000s")]),
        (GatewayTenant(name="a", requests_per_s=0.5, burst=7), [("requests", 7, 1, "2.000s")]),
        (GatewayTenant(name="a", requests_per_s=2.5, burst=1), [("requests", 1, 2, "0.800s")]),
        (GatewayTenant(name="a", bytes_per_s=10), [("bytes", 1000, 10, "1.000s")]),
        (GatewayTenant(name="a", bytes_per_s=5000), [("bytes", 5000, 5000, "1.000s")]),
    ],
)
def test_a_bucket_refills_at_its_rate_and_holds_a_burst_or_a_whole_body(
    tenant: GatewayTenant, wanted: list[tuple[str, int, int, str]]
) -> None:
    found = [(one["entries"][0]["key"], one["token_bucket"]) for one in buckets(tenant)]
    assert [
        (kind, bucket["max_tokens"], bucket["tokens_per_fill"], bucket["fill_interval"]) for kind, bucket in found
    ] == wanted
