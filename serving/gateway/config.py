"""Builds the parts of Envoy's configuration from a plan.

The bootstrap is static and names three files (listener, cluster, endpoints) that Envoy watches; only the endpoints
change while it runs. Source for every field: Envoy 1.40 v3 API reference.
"""

from pathlib import Path
from typing import Any

from serving.gateway.plan import Endpoint, GatewayPlan

Json = dict[str, Any]

CLUSTER = "engine"
BOOTSTRAP_FILE = "bootstrap.json"
LISTENERS_FILE = "lds.json"
CLUSTERS_FILE = "cds.json"
ENDPOINTS_FILE = "eds.json"

_API = "type.googleapis.com/envoy"
# Inference is a pure function of the request, so a request may be sent again even after it has reached a worker.
_RETRY_ON = "connect-failure,refused-stream,reset"
# Above what can be in flight on one host: a killed worker must not exhaust the budget of retries.
_CONCURRENT_RETRIES = 10_000
# Below the REST door's 75 s, so that Envoy, and never the worker, closes an idle connection.
_UPSTREAM_IDLE_S = 60.0
_ACCESS_LOG_FIELDS = {
    "time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "worker": "%UPSTREAM_HOST%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def bootstrap(plan: GatewayPlan, folder: Path) -> Json:
    """Return the static part: who this node is, its admin door, and the files to watch."""
    return {
        "node": {"id": "gateway", "cluster": "burnish"},
        "admin": {"address": _address(Endpoint(host="127.0.0.1", port=plan.admin_port))},
        "dynamic_resources": {
            "lds_config": _watched(folder, LISTENERS_FILE),
            "cds_config": _watched(folder, CLUSTERS_FILE),
        },
    }


def listeners(plan: GatewayPlan) -> Json:
    """Return the listener that clients reach, as an LDS answer."""
    listener = {
        "@type": f"{_API}.config.listener.v3.Listener",
        "name": "http",
        "address": _address(Endpoint(host=plan.host, port=plan.port)),
        "filter_chains": [{"filters": [_named("envoy.filters.network.http_connection_manager", _http(plan))]}],
    }
    return {"resources": [listener]}


def clusters(plan: GatewayPlan, folder: Path) -> Json:
    """Return the one cluster, the engine, as a CDS answer; its workers come from the endpoints file."""
    cluster = {
        "@type": f"{_API}.config.cluster.v3.Cluster",
        "name": CLUSTER,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _watched(folder, ENDPOINTS_FILE)},
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            # With no worker ready the answer is an honest 503 and not a try on workers known to be down.
            "healthy_panic_threshold": {"value": 0},
            # A worker found ready or dead counts at once; by default the news waits up to a second.
            "update_merge_window": "0s",
        },
        # A worker taken out of the file gets no new request even while it still answers health checks.
        "ignore_health_on_host_removal": True,
        "health_checks": [_health_check(plan)],
        "outlier_detection": {
            "consecutive_5xx": 1_000_000,  # a model's errors are not its worker's: only connections count
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
            "interval": "1s",
            "base_ejection_time": "1s",
            "max_ejection_time": "10s",
            "max_ejection_percent": 100,
        },
        "circuit_breakers": {"thresholds": [_limits()]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_API}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": _seconds(_UPSTREAM_IDLE_S)},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }
    return {"resources": [cluster]}


def endpoints(workers: tuple[Endpoint, ...]) -> Json:
    """Return the workers that get requests, as an EDS answer."""
    assignment = {
        "@type": f"{_API}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": CLUSTER,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(worker)}} for worker in workers]}],
    }
    return {"resources": [assignment]}


def _http(plan: GatewayPlan) -> Json:
    return {
        "@type": f"{_API}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "route_config": _routes(plan),
        "http_filters": [
            _named(
                "envoy.filters.http.body_size_limit",
                {
                    "@type": f"{_API}.extensions.filters.http.body_size_limit.v3.BodySizeLimit",
                    "max_request_bytes": plan.max_body_bytes,
                },
            ),
            _named("envoy.filters.http.router", {"@type": f"{_API}.extensions.filters.http.router.v3.Router"}),
        ],
        "access_log": [
            _named(
                "envoy.access_loggers.file",
                {
                    "@type": f"{_API}.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(plan.access_log),
                    "log_format": {"json_format": _ACCESS_LOG_FIELDS},
                },
            )
        ],
        "use_remote_address": True,
        "preserve_external_request_id": True,  # a client's own id is what its feedback will name
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "idle_timeout": "300s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "request_headers_timeout": "10s",
        "request_timeout": _seconds(plan.request_timeout_s),
        "stream_idle_timeout": _seconds(plan.request_timeout_s),
    }


def _routes(plan: GatewayPlan) -> Json:
    retry = {
        "retry_on": _RETRY_ON,
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
        "retry_host_predicate": [
            _named(
                "envoy.retry_host_predicates.previous_hosts",
                {"@type": f"{_API}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            )
        ],
        "host_selection_retry_max_attempts": 3,
    }
    engine = {
        "match": {"prefix": "/"},
        "route": {"cluster": CLUSTER, "timeout": _seconds(plan.request_timeout_s), "retry_policy": retry},
    }
    host = {
        "name": CLUSTER,
        "domains": ["*"],
        "routes": [engine],
        # So that a worker does not try again what has just ended another one.
        "include_request_attempt_count": True,
        # A request is kept until its answer has begun, so that one of any allowed size can be sent again.
        "request_body_buffer_limit": plan.max_body_bytes,
    }
    return {"name": CLUSTER, "virtual_hosts": [host]}


def _health_check(plan: GatewayPlan) -> Json:
    interval = _seconds(plan.health_interval_s)
    return {
        "timeout": "2s",
        "interval": interval,
        "no_traffic_interval": interval,
        "no_traffic_healthy_interval": interval,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/v2/health/ready"},
    }


def _limits() -> Json:
    return {
        "max_connections": 4096,
        "max_pending_requests": 4096,
        "max_requests": 8192,
        "retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": _CONCURRENT_RETRIES},
    }


def _watched(folder: Path, name: str) -> Json:
    return {
        "path_config_source": {"path": str(folder / name), "watched_directory": {"path": str(folder)}},
        "resource_api_version": "V3",
    }


def _address(endpoint: Endpoint) -> Json:
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def _named(name: str, config: Json) -> Json:
    return {"name": name, "typed_config": config}


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
