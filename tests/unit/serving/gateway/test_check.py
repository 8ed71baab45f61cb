from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from registry.errors import InputError
from registry.records.tenant import Quotas
from serving.gateway.admission import GatewayTenant, GatewayTenants
from serving.gateway.check import check, check_names
from serving.gateway.config import CLUSTERS_FILE, LISTENERS_FILE, configuration
from serving.gateway.filters import ACCESS_FILE, LIMITS_FILE
from serving.gateway.listener import ROUTES_FILE
from serving.gateway.plan import Endpoint, GatewayPlan
from serving.gateway.state import GatewayState

Files = dict[str, dict[str, Any]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    worker = Endpoint(host="127.0.0.1", port=8100)
    plan = GatewayPlan(port=8000, admin_port=8002, workers=(worker,), access_log=tmp_path / "access.json")
    return deepcopy(configuration(plan, GatewayState(plan=plan), tmp_path))


def table(files: Files) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = files[ROUTES_FILE]["resources"][0]["virtual_hosts"][0]["routes"]
    return found


def test_a_whole_configuration_passes_and_nothing_is_left(files: Files, tmp_path: Path) -> None:
    check(files, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["access.json"], "which Envoy itself opens"


@pytest.mark.parametrize("file", [LISTENERS_FILE, CLUSTERS_FILE, ROUTES_FILE, ACCESS_FILE, LIMITS_FILE])
def test_a_field_that_envoy_does_not_know_is_refused_by_name_in_whichever_file(
    files: Files, tmp_path: Path, file: str
) -> None:
    resource = files[file]["resources"][0]
    resource.get("typed_config", resource)["not_a_field"] = 1
    with pytest.raises(InputError, match=r"Envoy refuses.*not_a_field"):
        check(files, tmp_path)


def test_envoy_takes_the_most_and_the_least_that_a_quota_may_be(tmp_path: Path) -> None:
    most = Quotas(requests_per_s=1e6, burst=10**9, bytes_per_s=2**32 - 1)
    least = Quotas(requests_per_s=1e-6, burst=1, bytes_per_s=1)
    names = ("requests_per_s", "burst", "bytes_per_s")
    rates = [{name: getattr(quotas, name) for name in names} for quotas in (most, least)]
    tenants = tuple(GatewayTenant(name=f"t{number}", **one) for number, one in enumerate(rates))
    plan = GatewayPlan(
        port=8000,
        admin_port=8002,
        workers=(Endpoint(host="127.0.0.1", port=8100),),
        access_log=tmp_path / "access.json",
    )
    check(configuration(plan, GatewayState(plan=plan, admission=GatewayTenants(tenants=tenants)), tmp_path), tmp_path)


def test_a_value_that_envoy_does_not_take_is_refused(files: Files, tmp_path: Path) -> None:
    files[CLUSTERS_FILE]["resources"][0]["health_checks"][0]["unhealthy_threshold"] = "two"
    with pytest.raises(InputError, match="Envoy refuses"):
        check(files, tmp_path)


def test_a_route_to_a_cluster_that_does_not_exist_is_refused(files: Files) -> None:
    table(files)[1]["route"]["cluster"] = "gone"
    with pytest.raises(InputError, match="a route to gone"):
        check_names(files)


def test_two_routes_for_the_same_requests_are_refused(files: Files) -> None:
    table(files).append(deepcopy(table(files)[1]))
    with pytest.raises(InputError, match="two of the gateway's routes match the same"):
        check_names(files)


def test_a_cluster_that_is_there_twice_is_refused(files: Files) -> None:
    files[CLUSTERS_FILE]["resources"].append(deepcopy(files[CLUSTERS_FILE]["resources"][0]))
    with pytest.raises(InputError, match="clusters may be named once, got engine-rest"):
        check_names(files)


@pytest.mark.parametrize("endpoints", [[], [{"lb_endpoints": []}]])
def test_a_cluster_without_a_worker_is_refused(files: Files, endpoints: list[Any]) -> None:
    files["eds-engine-grpc.json"]["resources"][0]["endpoints"] = endpoints
    with pytest.raises(InputError, match="cluster engine-grpc would be left without a worker"):
        check_names(files)
