import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serving.gateway.config import BOOTSTRAP_FILE, CLUSTERS_FILE, LISTENERS_FILE, configuration
from serving.gateway.filters import ACCESS_FILE, LIMITS_FILE
from serving.gateway.listener import ROUTES_FILE
from serving.gateway.plan import Endpoint, GatewayPlan, Pool
from serving.gateway.state import GatewayState

PLAN = GatewayPlan(
    host="0.0.0.0",
    port=8000,
    admin_port=8002,
    workers=(Endpoint(host="10.0.0.1", port=8100),),
    access_log=Path("/logs/access.json"),
    max_body_bytes=1000,
    request_timeout_s=2.5,
)


def files(plan: GatewayPlan = PLAN) -> dict[str, dict[str, Any]]:
    return configuration(plan, GatewayState(plan=plan), Path("/gateway"))


def http(plan: GatewayPlan = PLAN) -> dict[str, Any]:
    listener = files(plan)[LISTENERS_FILE]["resources"][0]
    found: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def routes(plan: GatewayPlan = PLAN) -> list[dict[str, Any]]:
    host = files(plan)[ROUTES_FILE]["resources"][0]["virtual_hosts"][0]
    assert host["request_body_buffer_limit"] == plan.max_body_bytes
    found: list[dict[str, Any]] = host["routes"]
    return found


def test_admin_stays_on_loopback_whatever_the_listener_binds_to() -> None:
    found = files()
    assert found[BOOTSTRAP_FILE]["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8002}
    assert found[LISTENERS_FILE]["resources"][0]["address"]["socket_address"]["address"] == "0.0.0.0"


def test_paths_and_headers_that_hide_something_are_refused() -> None:
    manager = http()
    assert manager["normalize_path"]
    assert manager["merge_slashes"]
    assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    assert manager["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"


def test_limits_come_from_the_plan() -> None:
    manager = http()
    sizes = [one["typed_config"].get("max_request_bytes") for one in manager["http_filters"] if "typed_config" in one]
    assert [size for size in sizes if size] == [1000, 1000]
    assert {route["route"]["timeout"] for route in routes() if "route" in route} == {"0s", "2.500s"}
    assert {log["typed_config"]["path"] for log in manager["access_log"]} == {"/logs/access.json"}
    assert "cors" not in json.dumps(files()).lower()


def test_who_and_how_often_stands_in_files_of_their_own_and_before_the_body_is_taken() -> None:
    names = [one["name"] for one in http()["http_filters"]]
    assert names.index("burnish.access") < names.index("burnish.body-size") < names.index("burnish.whole-body")
    assert names.index("burnish.whole-body") < names.index("burnish.limits") < names.index("burnish.model")
    assert names[-1] == "envoy.filters.http.router"
    for name, file in (("burnish.access", ACCESS_FILE), ("burnish.limits", LIMITS_FILE)):
        assert files()[file]["resources"][0]["name"] == name


def test_only_the_endpoints_files_name_workers_and_grpc_is_the_next_port() -> None:
    naming = {name: text for name, one in files().items() if "10.0.0.1" in (text := json.dumps(one))}
    assert set(naming) == {"eds-engine-rest.json", "eds-engine-grpc.json"}
    assert '"port_value": 8100' in naming["eds-engine-rest.json"]
    assert '"port_value": 8101' in naming["eds-engine-grpc.json"]


def test_a_worker_that_has_files_is_reached_by_them_and_hashes_by_its_port() -> None:
    near = Endpoint(host="127.0.0.1", port=8100, sockets=Path("/home/engine/doors/8100-0"))
    found = files(PLAN.model_copy(update={"workers": (near,)}))
    (rest,), (rpc,) = (
        found[f"eds-engine-{kind}.json"]["resources"][0]["endpoints"][0]["lb_endpoints"] for kind in ("rest", "grpc")
    )
    assert rest["endpoint"]["address"] == {"pipe": {"path": "/home/engine/doors/8100-0/rest"}}
    assert rpc["endpoint"]["address"] == {"pipe": {"path": "/home/engine/doors/8100-0/grpc"}}
    assert rest["metadata"] == rpc["metadata"] == {"filter_metadata": {"envoy.lb": {"hash_key": "127.0.0.1:8100"}}}


def test_a_worker_that_is_out_is_in_no_endpoints_file() -> None:
    two = PLAN.model_copy(update={"workers": (*PLAN.workers, Endpoint(host="10.0.0.1", port=8110))})
    found = configuration(two, GatewayState(plan=two, out=PLAN.workers), Path("/gateway"))
    assert "8100" not in json.dumps(found["eds-engine-rest.json"])
    assert "8101" not in json.dumps(found["eds-engine-grpc.json"])


def test_a_pool_has_clusters_of_its_own_and_its_models_are_routed_there_by_either_protocol() -> None:
    pool = Pool(name="hot", models=("m", "acme.m"), workers=(Endpoint(host="10.0.0.2", port=8100),))
    plan = PLAN.model_copy(update={"pools": (pool,)})
    clusters = [cluster["name"] for cluster in files(plan)[CLUSTERS_FILE]["resources"]]
    assert clusters == ["engine-rest", "engine-grpc", "hot-rest", "hot-grpc"]
    mine = [route for route in routes(plan) if "x-burnish-tenant" in json.dumps(route["match"])]
    assert [route["route"]["cluster"] for route in mine] == 2 * ["hot-grpc", "hot-rest"]
    whose = [route["match"]["headers"][0]["string_match"]["exact"] for route in mine]
    assert whose == ["acme", "acme", "default", "default"]
    rpc, rest = (route["match"] for route in mine[:2])
    assert rpc["headers"][1] == {"name": "x-burnish-model", "string_match": {"safe_regex": {"regex": "m"}}}
    assert rest["safe_regex"]["regex"] == "/v2/models/(m)(/.*)?"
    names = [one["name"] for one in http(plan)["http_filters"]]
    assert names.index("burnish.model") + 1 == names.index("burnish.route"), "the route is chosen again by the model"


def test_what_is_not_the_protocol_is_answered_by_the_gateway() -> None:
    *_, last = routes()
    assert (last["match"], last["direct_response"]["status"]) == ({"prefix": "/"}, 404)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"workers": ()}, "no worker is left for the models that no pool names; take one out of its pool"),
        ({"workers": (*PLAN.workers, *PLAN.workers)}, "each worker may be named once, got 10.0.0.1:8100"),
        (
            {"workers": [{"host": "::1", "port": port, "sockets": "/a"} for port in (1, 3)]},
            "each worker's folder of sockets may be named once, got /a",
        ),
        ({"host": "10.0.0.1", "port": 8101}, "each address may be named once, got 10.0.0.1:8101"),
        ({"host": "127.0.0.1", "port": 8002}, "each address may be named once, got 127.0.0.1:8002"),
        ({"host": "localhost"}, "does not appear to be an IPv4 or IPv6 address"),
        ({"pools": ({"name": "engine", "models": ("m",), "workers": ({"host": "::1", "port": 1},)},)}, "each pool may"),
        (
            {
                "pools": tuple(
                    {"name": f"p{n}", "models": ("m",), "workers": ({"host": "::1", "port": 3 * n},)} for n in (1, 2)
                )
            },
            "each pool's model may be named once, got m",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        GatewayPlan.model_validate(PLAN.model_dump() | change)


@pytest.mark.parametrize("folder", ["doors", f"/{'x' * 102}"])
def test_sockets_are_where_there_can_be_any(folder: str) -> None:
    with pytest.raises(ValidationError, match="a socket's path is absolute and has at most 107 bytes"):
        Endpoint(host="127.0.0.1", port=8100, sockets=Path(folder))


def test_ports_must_exist_for_both_doors() -> None:
    for port in (70000, 65535, 0):
        with pytest.raises(ValidationError, match="port"):
            Endpoint(host="127.0.0.1", port=port)
