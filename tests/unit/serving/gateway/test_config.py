from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from serving.gateway import config
from serving.gateway.plan import Endpoint, GatewayPlan

PLAN = GatewayPlan(
    host="0.0.0.0",
    port=8000,
    admin_port=8002,
    workers=(Endpoint(host="10.0.0.1", port=8100),),
    access_log=Path("/logs/access.json"),
    max_body_bytes=1000,
    request_timeout_s=2.5,
)


def http(plan: GatewayPlan = PLAN) -> dict[str, Any]:
    found: dict[str, Any] = config.listeners(plan)["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def test_admin_stays_on_loopback_whatever_the_listener_binds_to() -> None:
    admin = config.bootstrap(PLAN, Path("/gateway"))["admin"]["address"]["socket_address"]
    assert admin == {"address": "127.0.0.1", "port_value": 8002}
    assert config.listeners(PLAN)["resources"][0]["address"]["socket_address"]["address"] == "0.0.0.0"


def test_paths_and_headers_that_hide_something_are_refused() -> None:
    manager = http()
    assert manager["normalize_path"]
    assert manager["merge_slashes"]
    assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    assert manager["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"


def test_limits_come_from_the_plan() -> None:
    manager = http()
    host = manager["route_config"]["virtual_hosts"][0]
    assert manager["http_filters"][0]["typed_config"]["max_request_bytes"] == 1000
    assert host["request_body_buffer_limit"] == 1000
    assert host["routes"][0]["route"]["timeout"] == "2.500s"
    assert manager["access_log"][0]["typed_config"]["path"] == "/logs/access.json"


def test_only_the_endpoints_file_names_workers() -> None:
    worker = {"address": "10.0.0.1", "port_value": 8100}
    everything_else = [config.listeners(PLAN), config.clusters(PLAN, Path("/g")), config.bootstrap(PLAN, Path("/g"))]
    assert not any("10.0.0.1" in str(part) for part in everything_else)
    assert str(worker) in str(config.endpoints(PLAN.workers))


def test_a_gateway_needs_a_worker_and_ports_that_exist() -> None:
    with pytest.raises(ValidationError, match="workers"):
        GatewayPlan(port=8000, admin_port=8002, workers=(), access_log=Path("a"))
    with pytest.raises(ValidationError, match="port"):
        Endpoint(host="127.0.0.1", port=70000)
