"""Keys, limits and switches of tenants at a real Envoy: who is let in, as whom; nobody else reaches a worker."""

import asyncio
import json
from collections.abc import Iterator

import grpc
import httpx
import pytest

from registry.errors import InputError
from registry.records.tenant import Scope, TenantState
from serving.doors.protocol import open_inference_pb2 as pb
from serving.gateway.state import read_state
from serving.gateway.tenants import GatewayTenant, set_tenants, switch_tenant
from tests.integration.gateway_rig import BODY, GatewayRig, bearer, key, plan_of, running
from tests.integration.processes import wait_for

INFER = "/v2/models/m/infer"
ACME, FERRY, OTHER = key(1), key(2), key(3, Scope.DEPLOY)
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayRig]:
    home = tmp_path_factory.mktemp("tenants")
    with running(plan_of(home), home) as rig:
        yield rig


@pytest.fixture
def rig(gateway: GatewayRig) -> Iterator[GatewayRig]:
    """The gateway with two tenants besides the default one, and no limits."""
    admit(gateway, GatewayTenant(name="acme", keys=(ACME, OTHER)), GatewayTenant(name="ferry", keys=(FERRY,)))
    for tenant in read_state(gateway.folder).switches:
        switch_tenant(gateway.folder, tenant, TenantState.OPEN)
    yield gateway


def admit(rig: GatewayRig, *tenants: GatewayTenant, require_keys: bool = True) -> None:
    set_tenants(rig.folder, (GatewayTenant(name="default"), *tenants), require_keys=require_keys)


def infer(rig: GatewayRig, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.post(f"{rig.url}{INFER}", content=BODY, headers=headers, trust_env=False)


def came(answer: httpx.Response) -> dict[str, str]:
    """The headers that reached the worker."""
    found: dict[str, str] = json.loads(answer.headers["x-came"])
    return found


def call(rig: GatewayRig, headers: dict[str, str]) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """Call ModelInfer; status, message, and the metadata that comes with the answer."""
    with grpc.insecure_channel(rig.grpc) as channel:
        method = channel.unary_unary(METHOD, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        try:
            _, done = method.with_call(
                pb.ModelInferRequest(model_name="m"), metadata=tuple(headers.items()), timeout=20
            )
        except grpc.RpcError as error:
            return error.code(), error.details(), dict(error.trailing_metadata() or ())
        return done.code(), "", dict(done.initial_metadata())


@pytest.mark.parametrize("headers", [bearer(ACME), {"x-api-key": ACME.key.get_secret_value()}])
def test_a_key_makes_its_tenant_and_goes_no_further(rig: GatewayRig, headers: dict[str, str]) -> None:
    spoofed = {"x-burnish-tenant": "ferry", "X-Burnish-Model": "other"}
    answer = infer(rig, headers | spoofed)
    assert answer.status_code == 200
    reached = came(answer)
    assert reached["x-burnish-tenant"] == "acme"
    assert not {"authorization", "x-api-key", "x-burnish-model"} & set(reached)
    status, _, metadata = call(rig, headers | {name.lower(): value for name, value in spoofed.items()})
    assert status is grpc.StatusCode.OK
    reached = json.loads(metadata["x-came"])
    assert (reached["x-burnish-tenant"], reached["x-burnish-model"]) == ("acme", "m")
    assert not {"authorization", "x-api-key"} & set(reached)


@pytest.mark.parametrize(
    ("headers", "status", "code", "says"),
    [
        ({}, 401, grpc.StatusCode.UNAUTHENTICATED, "no valid API key"),
        ({"authorization": "Bearer wrong"}, 401, grpc.StatusCode.UNAUTHENTICATED, "no valid API key"),
        ({"x-burnish-tenant": "acme"}, 401, grpc.StatusCode.UNAUTHENTICATED, "no valid API key"),
        (bearer(OTHER), 403, grpc.StatusCode.PERMISSION_DENIED, "lacks the scope `predict`"),
        (bearer(OTHER) | {"x-burnish-tenant": "acme"}, 403, grpc.StatusCode.PERMISSION_DENIED, "lacks the scope"),
    ],
    ids=["no key", "wrong key", "only a spoofed tenant", "no scope", "no scope and a spoofed tenant"],
)
def test_who_may_not_enter_is_told_so_and_reaches_no_worker(
    rig: GatewayRig, headers: dict[str, str], status: int, code: grpc.StatusCode, says: str
) -> None:
    before = rig.seen()
    answer = infer(rig, headers)
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"
    assert call(rig, headers)[:2] == (code, answer.json()["error"])
    assert httpx.get(f"{rig.url}/v2/health/ready", headers=headers, trust_env=False).status_code == status
    assert rig.seen() == before


def test_a_revoked_key_fails_on_connections_that_are_open(rig: GatewayRig) -> None:
    with httpx.Client(base_url=rig.url, trust_env=False) as client, grpc.insecure_channel(rig.grpc) as channel:
        method = channel.unary_unary(METHOD, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        request, metadata = pb.ModelInferRequest(model_name="m"), tuple(bearer(ACME).items())
        assert client.get("/v2", headers=bearer(ACME)).status_code == 200
        assert method(request, metadata=metadata, timeout=20).model_name == "m"
        admit(rig, GatewayTenant(name="ferry", keys=(FERRY,)))
        before = rig.seen()
        refused = client.get("/v2", headers=bearer(ACME))
        assert refused.status_code == 401
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            method(request, metadata=metadata, timeout=20)
        assert rig.seen() == before
        assert client.get("/v2", headers=bearer(FERRY)).status_code == 200
    assert rig.statistic("http.gateway.downstream_cx_destroy_remote_active_rq") == 0


def test_where_no_key_is_required_who_has_none_is_the_default_tenant(rig: GatewayRig) -> None:
    admit(rig, GatewayTenant(name="acme", keys=(ACME,)), require_keys=False)
    reached = came(infer(rig, {"x-burnish-tenant": "acme"}))
    assert reached["x-burnish-tenant"] == "default"
    assert "x-api-key" not in reached
    assert came(infer(rig, bearer(ACME)))["x-burnish-tenant"] == "acme"
    assert infer(rig, {"authorization": "Bearer wrong"}).status_code == 401


def test_requests_beyond_a_tenants_limit_are_told_when_to_come_again(rig: GatewayRig) -> None:
    limited = GatewayTenant(name="acme", keys=(ACME,), requests_per_s=0.01, burst=3)
    admit(rig, limited, GatewayTenant(name="ferry", keys=(FERRY,), requests_per_s=1000, burst=1000))
    before = rig.seen()
    with httpx.Client(base_url=rig.url, trust_env=False) as client:
        answers = [client.post(INFER, content=BODY, headers=bearer(ACME)) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 3
        assert rig.seen() == before + 3
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0", "0", "0"]
        for answer in answers:
            assert answer.headers["ratelimit-limit"] == "3"
            assert int(answer.headers["ratelimit-reset"]) <= 400
            assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
        assert 0 < int(answers[-1].headers["retry-after"]) <= 100
        assert "limits" in answers[-1].json()["error"]
        code, says, metadata = call(rig, bearer(ACME))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "limits" in says
        assert metadata["retry-after"]
        assert client.post(INFER, content=BODY, headers=bearer(FERRY)).status_code == 200


@pytest.mark.parametrize("said", [True, False], ids=["size said", "size not said"])
def test_bytes_beyond_a_tenants_limit_are_refused_whether_or_not_their_size_was_said(
    rig: GatewayRig, said: bool
) -> None:
    admit(rig, GatewayTenant(name="acme", keys=(ACME,), bytes_per_s=1))
    part = b"x" * 45_000
    with httpx.Client(base_url=rig.url, trust_env=False) as client:
        answers = [client.post(INFER, content=part if said else iter([part]), headers=bearer(ACME)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429], "the bucket holds 100,000 bytes"
        assert int(answers[-1].headers["retry-after"]) > 0
        assert client.get("/v2", headers=bearer(ACME)).status_code == 200, "what has no body costs none"
    assert call(rig, bearer(ACME))[0] is grpc.StatusCode.OK


def test_fifty_tenants_each_have_a_limit_of_their_own(rig: GatewayRig) -> None:
    keys = [key(100 + number) for number in range(50)]
    admit(rig, *(GatewayTenant(name=f"t{n}", keys=(keys[n],), requests_per_s=0.01, burst=1) for n in range(50)))
    with httpx.Client(base_url=rig.url, trust_env=False) as client:
        for wanted in (200, 429):
            assert {client.get("/v2", headers=bearer(one)).status_code for one in keys} == {wanted}


def test_a_blocked_tenant_is_refused_until_it_is_opened_whatever_the_ledger_says_meanwhile(rig: GatewayRig) -> None:
    switch_tenant(rig.folder, "acme", TenantState.BLOCKED)
    before = rig.seen()
    assert infer(rig, bearer(ACME)).json() == {"error": "this tenant is blocked; ask who runs this gateway"}
    admit(rig, GatewayTenant(name="acme", keys=(ACME,)), GatewayTenant(name="ferry", keys=(FERRY,)))
    assert infer(rig, bearer(ACME)).status_code == 403
    assert call(rig, bearer(ACME))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert rig.seen() == before
    assert infer(rig, bearer(FERRY)).status_code == 200
    switch_tenant(rig.folder, "acme", TenantState.OPEN)
    assert infer(rig, bearer(ACME)).status_code == 200


def test_a_draining_tenant_gets_no_new_request_and_keeps_those_it_has(rig: GatewayRig) -> None:
    async def drain() -> tuple[httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(base_url=rig.url, trust_env=False, timeout=20) as client:
            before = rig.seen()
            with rig.held():
                running = asyncio.create_task(client.get("/v2/held", headers=bearer(ACME)))
                await asyncio.to_thread(wait_for, lambda: rig.seen() > before, "the request to arrive")
                await asyncio.to_thread(switch_tenant, rig.folder, "acme", TenantState.DRAINING)
                refused = await client.get("/v2", headers=bearer(ACME))
                assert rig.seen() == before + 1
            return await running, refused

    kept, refused = asyncio.run(drain())
    assert (kept.status_code, refused.status_code) == (200, 503)
    assert int(refused.headers["retry-after"]) > 0
    assert "drained" in refused.json()["error"]
    assert call(rig, bearer(ACME))[0] is grpc.StatusCode.UNAVAILABLE
    assert infer(rig, bearer(FERRY)).status_code == 200


def test_a_tenant_that_nobody_knows_cannot_be_switched(rig: GatewayRig) -> None:
    with pytest.raises(InputError, match="knows no tenant 'nobody'; it knows acme, default, ferry"):
        switch_tenant(rig.folder, "nobody", TenantState.BLOCKED)


def test_the_access_log_names_tenant_and_model_and_no_key(rig: GatewayRig) -> None:
    infer(rig, bearer(ACME) | {"x-request-id": "of-acme"})
    call(rig, bearer(ACME) | {"x-request-id": "rpc-of-acme"})
    wait_for(lambda: rig.plan.access_log.read_text().count("of-acme") == 2, "the access log")
    lines = {line["request_id"]: line for line in rig.logged()}
    for request_id, status in (("of-acme", None), ("rpc-of-acme", 0)):
        line = lines[request_id]
        told = (line["tenant"], line["model"], line["status"], line["grpc_status"])
        assert told == ("acme", "m", 200, status)
    assert lines["of-acme"]["received_bytes"] == len(BODY)
    assert ACME.key.get_secret_value() not in rig.plan.access_log.read_text()


def test_no_file_of_the_gateway_with_a_key_in_it_can_be_read_by_others(rig: GatewayRig) -> None:
    holders = [path for path in rig.folder.iterdir() if ACME.key.get_secret_value() in path.read_text()]
    assert {path.name for path in holders} == {"access.json", "gateway.json"}
    assert {path.stat().st_mode & 0o077 for path in holders} == {0}
