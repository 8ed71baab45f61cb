"""The pools of workers as Envoy's clusters: one for each pool's REST doors, one for its gRPC doors."""

from collections.abc import Iterable
from pathlib import Path

from serving.gateway.plan import Endpoint, GatewayPlan
from serving.gateway.typed import Json, address, discovery, message, seconds, watched
from serving.settings import GRPC, REST

# Above what can be in flight on one host: a killed worker must not exhaust the budget of retries.
_CONCURRENT_RETRIES = 10_000
# Below the REST door's 75 s, so that Envoy, and never the worker, closes an idle connection.
_UPSTREAM_IDLE_S = 60.0
# A worker may have this share of the mean load of all; what is beyond goes to the next one of the ring. So a model that
# is hot alone still keeps every worker busy, and models that are not stay where they are loaded.
_BALANCE_PERCENT = 125
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster_name(pool: str, protocol: str) -> str:
    """Return the name of a pool's cluster."""
    return f"{pool}-{protocol}"


def endpoints_file(cluster: str) -> str:
    """Return the name of the file with a cluster's workers; Envoy wants one file a cluster."""
    return f"eds-{cluster}.json"


def clusters(plan: GatewayPlan, folder: Path) -> Json:
    """Return all clusters, as a CDS answer; their workers come from the endpoints files."""
    return discovery(
        _cluster(plan, folder, cluster_name(pool, protocol), protocol)
        for pool in plan.by_pool()
        for protocol in (REST, GRPC)
    )


def endpoints(plan: GatewayPlan, in_rotation: Iterable[Endpoint]) -> dict[str, Json]:
    """Return the EDS answer of each cluster by its name: those of its workers that get requests."""
    serving = set(in_rotation)
    found = {}
    for pool, workers in plan.by_pool().items():
        kept = [worker for worker in workers if worker in serving]
        for protocol in (REST, GRPC):
            name = cluster_name(pool, protocol)
            found[name] = discovery([_assignment(name, [_door(worker, protocol) for worker in kept])])
    return found


def _assignment(cluster: str, doors: list[Json]) -> Json:
    kind = "envoy.config.endpoint.v3.ClusterLoadAssignment"
    return message(kind, cluster_name=cluster, endpoints=[{"lb_endpoints": doors}])


def _door(worker: Endpoint, protocol: str) -> Json:
    """One door of a worker; both hash as the worker does, so that a model is loaded by one for either protocol."""
    hashed = {"envoy.lb": {"hash_key": f"{worker.host}:{worker.port}"}}
    return {"endpoint": {"address": door_address(worker, protocol)}, "metadata": {"filter_metadata": hashed}}


def door_address(worker: Endpoint, protocol: str) -> Json:
    """Return how Envoy reaches a door: by its file where it has one, for that spares both sides the work of TCP."""
    if worker.sockets is not None:
        return {"pipe": {"path": str(worker.sockets / protocol)}}
    door = worker.grpc if protocol == GRPC else worker
    return address(door.host, door.port)


def _cluster(plan: GatewayPlan, folder: Path, name: str, protocol: str) -> Json:
    return message(
        "envoy.config.cluster.v3.Cluster",
        name=name,
        type="EDS",
        eds_cluster_config={"eds_config": watched(folder, endpoints_file(name))},
        connect_timeout="1s",
        # A ring holds more points for each worker when there are fewer of them, so that a worker that goes moves models
        # between those that stay as well; a Maglev table moves hardly any but its own.
        lb_policy="MAGLEV",
        common_lb_config={
            # With no worker ready the answer is an honest 503 and not a try on workers known to be down.
            "healthy_panic_threshold": {"value": 0},
            # A worker found ready or dead counts at once; by default the news waits up to a second.
            "update_merge_window": "0s",
            "consistent_hashing_lb_config": {"hash_balance_factor": _BALANCE_PERCENT},
        },
        # A worker taken out of the file gets no new request even while it still answers health checks.
        ignore_health_on_host_removal=True,
        health_checks=[_health_check(plan, protocol)],
        outlier_detection=_ejection(),
        circuit_breakers={"thresholds": [_limits()]},
        typed_extension_protocol_options={_HTTP: _protocol(protocol)},
    )


def _protocol(protocol: str) -> Json:
    options: Json = {"http2_protocol_options": {}} if protocol == GRPC else {"http_protocol_options": {}}
    idle = {"idle_timeout": seconds(_UPSTREAM_IDLE_S)}
    return message(_HTTP, common_http_protocol_options=idle, explicit_http_config=options)


def _health_check(plan: GatewayPlan, protocol: str) -> Json:
    interval = seconds(plan.health_interval_s)
    question = {"grpc_health_check": {}} if protocol == GRPC else {"http_health_check": {"path": "/v2/health/ready"}}
    return {
        "timeout": "2s",
        "interval": interval,
        "no_traffic_interval": interval,
        "no_traffic_healthy_interval": interval,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        **question,
    }


def _ejection() -> Json:
    return {
        "consecutive_5xx": 1_000_000,  # a model's errors are not its worker's: only connections count
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "interval": "1s",
        "base_ejection_time": "1s",
        "max_ejection_time": "10s",
        "max_ejection_percent": 100,
    }


def _limits() -> Json:
    return {
        "max_connections": 4096,
        "max_pending_requests": 4096,
        "max_requests": 8192,
        "retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": _CONCURRENT_RETRIES},
    }
