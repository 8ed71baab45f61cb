"""Which request goes to which pool, and by what its worker is chosen; anything else is 404 and reaches nobody."""

import re
from collections.abc import Iterator

from registry.records.tenant import TENANT_HEADER
from serving.gateway.clusters import GRPC, REST, cluster_name
from serving.gateway.plan import MAIN_POOL, GatewayPlan, Pool
from serving.gateway.typed import Json, discovery, extension, message, seconds, set_header

ROUTES = "gateway"
MODEL_HEADER = "x-burnish-model"
"""The model's qualified name, by which the worker is chosen; what a client sends under this name is removed."""

MODEL_FILTER = "burnish.model"
SIZE_FILTER = "burnish.body-size"
WHOLE_FILTER = "burnish.whole-body"

GRPC_SERVICE = "inference.GRPCInferenceService"
FOUND_IN_RPC = "envoy.filters.http.grpc_field_extraction"
"""Where the filter of that name leaves the model's name that it has found in a message."""

# Inference is a pure function of the request, so a request may be sent again even after it has reached a worker.
_RETRY_ON = "connect-failure,refused-stream,reset"
_TENANT = f"request.headers['{TENANT_HEADER}']"
_QUALIFIER = f"({_TENANT} == 'default' ? '' : {_TENANT} + '.')"
_OF_PATH = f"{_QUALIFIER} + request.url_path.split('/')[3]"
_OF_RPC = f"{_QUALIFIER} + metadata.filter_metadata['{FOUND_IN_RPC}'].model[0]"


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
    rpc, models = {"prefix": f"/{GRPC_SERVICE}/", "grpc": {}}, {"prefix": "/v2/models/"}
    rpcs, rest = cluster_name(MAIN_POOL, GRPC), cluster_name(MAIN_POOL, REST)
    yield _answered(400, {"prefix": "/", "headers": [{"name": ":authority", "string_match": {"contains": ","}}]})
    yield _stream(rpcs)
    for pool in plan.pools:
        mine = {"headers": [_names_one_of(pool)]}
        yield _route(plan, {**rpc, **mine}, cluster_name(pool.name, GRPC))
        yield _route(plan, {**models, **mine}, cluster_name(pool.name, REST))
    yield _route(plan, rpc, rpcs, model=_OF_RPC)
    yield _route(plan, {"path": "/grpc.health.v1.Health/Check", "grpc": {}}, rpcs)
    yield _route(plan, models, rest, model=_OF_PATH)
    yield _route(plan, {"prefix": "/v2/"}, rest)
    yield _route(plan, {"path": "/v2"}, rest)
    yield _answered(404, {"prefix": "/"})


def _answered(status: int, match: Json) -> Json:
    """The gateway's own answer, without waiting for the body."""
    return {"match": match, "direct_response": {"status": status}, "typed_per_filter_config": _not_held()}


def _route(plan: GatewayPlan, match: Json, cluster: str, model: str | None = None) -> Json:
    whole = seconds(plan.body_timeout_s + plan.request_timeout_s)
    action = {
        **_to(cluster),
        "timeout": seconds(plan.request_timeout_s),
        "max_stream_duration": {"max_stream_duration": whole, "grpc_timeout_header_max": whole},
        "retry_policy": _retry(),
    }
    named = {"typed_per_filter_config": {MODEL_FILTER: _name_model(model)}} if model else {}
    return {"match": match, "route": action, **named}


def _stream(cluster: str) -> Json:
    """A stream of requests lasts as long as its client wants, is passed on as it comes, and is never sent again."""
    match = {"path": f"/{GRPC_SERVICE}/ModelStreamInfer", "grpc": {}}
    return {"match": match, "route": {**_to(cluster), "timeout": "0s"}, "typed_per_filter_config": _not_held()}


def _to(cluster: str) -> Json:
    return {"cluster": cluster, "hash_policy": [{"header": {"header_name": MODEL_HEADER}}]}


def _not_held() -> Json:
    disabled = message("envoy.config.route.v3.FilterConfig", disabled=True)
    return {SIZE_FILTER: disabled, WHOLE_FILTER: disabled}


def _name_model(expression: str) -> Json:
    formatter = extension(
        "envoy.formatter.cel",
        "envoy.extensions.formatter.cel.v3.Cel",
        cel_config={"enable_string_concat": True, "enable_string_functions": True},
    )
    mutations = {"request_mutations": [set_header(MODEL_HEADER, f"%CEL({expression})%")], "formatters": [formatter]}
    kind = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"
    return message(kind, mutations=mutations)


def _names_one_of(pool: Pool) -> Json:
    names = "|".join(re.escape(model) for model in pool.models)
    return {"name": MODEL_HEADER, "string_match": {"safe_regex": {"regex": names}}}


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
