"""Which request goes to which pool, and by what its worker is chosen; anything else is 404 and reaches nobody."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from registry.records.tenant import TENANT_HEADER, split_name
from serving.gateway.clusters import cluster_name
from serving.gateway.plan import MAIN_POOL, GatewayPlan, Pool
from serving.gateway.typed import Json, discovery, extension, is_exactly, message, seconds, set_header
from serving.settings import GRPC, REST

ROUTES = "gateway"
MODEL_HEADER = "x-burnish-model"
"""The name that a gRPC message gives its model; what a client sends under this name is removed."""

MODEL_FILTER = "burnish.model"
SIZE_FILTER = "burnish.body-size"
WHOLE_FILTER = "burnish.whole-body"

GRPC_SERVICE = "inference.GRPCInferenceService"
FOUND_IN_RPC = "envoy.filters.http.grpc_field_extraction"
"""Where the filter of that name leaves the model's name that it has found in a message."""

# Inference is a pure function of the request, so a request may be sent again even after it has reached a worker.
_RETRY_ON = "connect-failure,refused-stream,reset"
_MODELS = "/v2/models/"
_FOUND = f"metadata.filter_metadata['{FOUND_IN_RPC}'].model[0]"
# Of what no model is called, nothing or its beginning: a header may not hold every character, nor any number of them.
_NAMED_BY_RPC = f"%CEL({_FOUND}.matches('^[!-~]*$') ? {_FOUND} : ''):95%"
# The worker is chosen by tenant and model. A path is hashed without being copied into a header by an expression first:
# that would cost as much as all that asks for keys.
_BY_TENANT: Json = {"header": {"header_name": TENANT_HEADER}}
_IN_PATH = {"pattern": {"regex": f"{_MODELS}([^/?]*).*"}, "substitution": r"\1"}
_BY_PATH: list[Json] = [_BY_TENANT, {"header": {"header_name": ":path", "regex_rewrite": _IN_PATH}}]
_BY_RPC: list[Json] = [_BY_TENANT, {"header": {"header_name": MODEL_HEADER}}]


def routes(plan: GatewayPlan) -> Json:
    """Return all routes, as an RDS answer."""
    host = {
        "name": ROUTES,
        "domains": ["*"],
        "routes": list(_routes(plan)),
        # So that a worker does not try again what has just ended another one.
        "include_request_attempt_count": True,
        # A request is kept until its answer has begun, so that one of any allowed size can be sent again.
        "request_body_buffer_limit": plan.max_body_bytes,
    }
    return discovery([message("envoy.config.route.v3.RouteConfiguration", name=ROUTES, virtual_hosts=[host])])


def _routes(plan: GatewayPlan) -> Iterator[Json]:
    """From the most particular to the rest; the first that matches counts."""
    rpc, models = {"prefix": f"/{GRPC_SERVICE}/", "grpc": {}}, {"prefix": _MODELS}
    rpcs, rest = cluster_name(MAIN_POOL, GRPC), cluster_name(MAIN_POOL, REST)
    yield _answered(400, {"prefix": "/", "headers": [{"name": ":authority", "string_match": {"contains": ","}}]})
    yield _stream(rpcs)
    yield _compressed(plan, rpc, rpcs)
    for pool in plan.pools:
        for tenant, names in _by_tenant(pool):
            whose = is_exactly(TENANT_HEADER, tenant)
            said = {"name": MODEL_HEADER, "string_match": _one_of(names)}
            asked = {**_one_of(f"{_MODELS}({names})(/.*)?"), "headers": [whose]}
            yield _route(plan, {**rpc, "headers": [whose, said]}, cluster_name(pool.name, GRPC), _BY_RPC)
            yield _route(plan, asked, cluster_name(pool.name, REST), _BY_PATH)
    yield {**_route(plan, rpc, rpcs, _BY_RPC), "typed_per_filter_config": {MODEL_FILTER: _name_model()}}
    yield _route(plan, {"path": "/grpc.health.v1.Health/Check", "grpc": {}}, rpcs)
    yield _route(plan, models, rest, _BY_PATH)
    yield _route(plan, {"prefix": "/v2/"}, rest)
    yield _route(plan, {"path": "/v2"}, rest)
    yield _answered(403, {"connect_matcher": {}})  # no prefix matches it, and its end would be waited for
    yield _answered(404, {"prefix": "/"})


def _by_tenant(pool: Pool) -> Iterator[tuple[str, str]]:
    """A pool's tenants, each with its models' names as alternatives of an expression."""
    for tenant, models in groupby(sorted(map(split_name, pool.models)), key=itemgetter(0)):
        yield tenant, "|".join(re.escape(model) for _, model in models)


def _one_of(expression: str) -> Json:
    return {"safe_regex": {"regex": expression}}


def _answered(status: int, match: Json) -> Json:
    """The gateway's own answer, without waiting for the body."""
    return {"match": match, "direct_response": {"status": status}, "typed_per_filter_config": _not_held()}


def _route(plan: GatewayPlan, match: Json, cluster: str, by: Sequence[Json] = ()) -> Json:
    """A route to a cluster, whose worker is chosen by the hash of some things; by chance if there are none."""
    whole = seconds(plan.body_timeout_s + plan.request_timeout_s)
    action = {
        "cluster": cluster,
        "hash_policy": list(by),
        "timeout": seconds(plan.request_timeout_s),
        "max_stream_duration": {"max_stream_duration": whole, "grpc_timeout_header_max": whole},
        "retry_policy": _retry(),
    }
    return {"match": match, "route": action}


def _stream(cluster: str) -> Json:
    """A stream of requests lasts as long as its client wants, is passed on as it comes, and is never sent again."""
    match = {"path": f"/{GRPC_SERVICE}/ModelStreamInfer", "grpc": {}}
    return {"match": match, "route": {"cluster": cluster, "timeout": "0s"}, "typed_per_filter_config": _not_held()}


def _compressed(plan: GatewayPlan, rpc: Json, cluster: str) -> Json:
    """A compressed message goes to any worker unread: Envoy cannot read it, and would refuse what it should read."""
    # Whoever sends no such header matches neither this nor its contrary.
    encoded = {**is_exactly("grpc-encoding", "identity"), "invert_match": True}
    route = _route(plan, {**rpc, "headers": [encoded]}, cluster)
    return {**route, "typed_per_filter_config": _without(FOUND_IN_RPC)}


def _not_held() -> Json:
    return _without(SIZE_FILTER, WHOLE_FILTER)


def _without(*filters: str) -> Json:
    disabled = message("envoy.config.route.v3.FilterConfig", disabled=True)
    return dict.fromkeys(filters, disabled)


def _name_model() -> Json:
    formatter = extension("envoy.formatter.cel", "envoy.extensions.formatter.cel.v3.Cel")
    mutations = {"request_mutations": [set_header(MODEL_HEADER, _NAMED_BY_RPC)], "formatters": [formatter]}
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"
    return message(kind, mutations=mutations)


def _retry() -> Json:
    return {
        "retry_on": _RETRY_ON,
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
        "retry_host_predicate": [
            extension(
                "envoy.retry_host_predicates.previous_hosts",
                "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": 3,
    }
