"""Builds all files of a gateway from its state."""

from pathlib import Path

from registry.digest import json_digest
from serving.gateway import access, clusters, filters, listener, routes
from serving.gateway.plan import GatewayPlan
from serving.gateway.state import GatewayState
from serving.gateway.typed import Json, address, extension, watched

BOOTSTRAP_FILE = "bootstrap.json"
LISTENERS_FILE = "lds.json"
CLUSTERS_FILE = "cds.json"

_CONNECTIONS = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"


def configuration(plan: GatewayPlan, state: GatewayState, folder: Path) -> dict[str, Json]:
    """Return the content of each file by its name, in the order in which a running Envoy may be given them.

    The bootstrap is static; all others are watched. Each of those carries a digest as its version, by which Envoy says
    what it has in force.
    """
    workers = [worker for pool in plan.by_pool().values() for worker in pool if worker not in state.out]
    admitted = state.admitted()
    found = {
        **{clusters.endpoints_file(name): one for name, one in clusters.endpoints(plan, workers).items()},
        **({listener.CERTIFICATE_FILE: listener.certificate(plan.tls)} if plan.tls else {}),
        filters.ACCESS_FILE: access.access(admitted),
        filters.LIMITS_FILE: access.limits(admitted, plan),
        CLUSTERS_FILE: clusters.clusters(plan, folder),
        listener.ROUTES_FILE: routes.routes(plan),
        LISTENERS_FILE: listener.listeners(plan, folder),
    }
    answers = {name: versioned(content) for name, content in found.items()}
    return {**answers, BOOTSTRAP_FILE: _bootstrap(plan, folder)}


def versioned(content: Json) -> Json:
    """Return a watched file's content with its version."""
    resources = content["resources"]
    return {"version_info": json_digest(resources), "resources": resources}


def _bootstrap(plan: GatewayPlan, folder: Path) -> Json:
    """Who this node is, its admin door, the files to watch, and how many connections it takes."""
    monitor = extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        _CONNECTIONS,
        max_active_downstream_connections=plan.max_connections,
    )
    # By default Envoy reads over a chunk that is longer than it says, up to the next line.
    strict = {"envoy.reloadable_features.strict_chunk_parsing": True}
    return {
        "node": {"id": "gateway", "cluster": "burnish"},
        "admin": {"address": address("127.0.0.1", plan.admin_port)},
        "dynamic_resources": {
            "lds_config": watched(folder, LISTENERS_FILE),
            "cds_config": watched(folder, CLUSTERS_FILE),
        },
        "overload_manager": {"resource_monitors": [monitor]},
        "layered_runtime": {"layers": [{"name": "strict", "static_layer": strict}]},
    }
