"""Who gets in and how often, as the two filters that Envoy takes from watched files.

They come by extension discovery, which puts a new configuration in force for the next request of every connection, the
open ones too; a new listener would leave those on the old keys until they close.
"""

from collections.abc import Iterable, Iterator

from registry.records.tenant import DEFAULT_TENANT, TENANT_HEADER, Scope, TenantState
from serving.gateway.admission import GatewayKey, GatewayTenant, GatewayTenants
from serving.gateway.plan import GatewayPlan
from serving.gateway.typed import Json, discovery, extension, is_exactly, message

ACCESS = "burnish.access"
LIMITS = "burnish.limits"
CHAIN_TYPE = "envoy.extensions.filters.http.filter_chain.v3.FilterChainConfig"
LIMITS_TYPE = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"

KEY_HEADER = "x-api-key"
NO_KEY = "none"
"""Stands in the key's header of who sent none."""

BLOCKED = "blocked"
NO_SCOPE = "scope"
"""Names of the rules that refuse, as they stand in the details of an answer."""

_NO_PREDICT = ":no-predict"
_ALWAYS = {"default_value": {"numerator": 100}}


def access(record: GatewayTenants) -> Json:
    """Return the chain that turns a key into its tenant and refuses who may not enter, as an ECDS answer."""
    filters = [_keys(record), _rules(record.tenants)]
    if draining := _in(record.tenants, TenantState.DRAINING):
        filters.append(_draining(draining))
    return discovery([_discovered(ACCESS, message(CHAIN_TYPE, default_filter_chain={"filters": filters}))])


def limits(record: GatewayTenants, plan: GatewayPlan) -> Json:
    """Return the token buckets of all tenants, as an ECDS answer."""
    buckets = message(
        LIMITS_TYPE,
        stat_prefix="limits",
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        descriptors=[bucket for tenant in record.tenants for bucket in _buckets(tenant, plan)],
        rate_limits=[_requests(), _bytes()],
        always_consume_default_token_bucket=False,
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        enable_retry_after_header=True,
        rate_limited_as_resource_exhausted=True,
    )
    return discovery([_discovered(LIMITS, buckets)])


def _discovered(name: str, filter_: Json) -> Json:
    return message("envoy.config.core.v3.TypedExtensionConfig", name=name, typed_config=filter_)


def _keys(record: GatewayTenants) -> Json:
    known = [
        {"key": key.key.get_secret_value(), "client": _client(tenant, key)}
        for tenant in record.tenants
        for key in tenant.keys
    ]
    anyone = [] if record.require_keys else [{"key": NO_KEY, "client": DEFAULT_TENANT}]
    return extension(
        "envoy.filters.http.api_key_auth",
        "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
        credentials=[*anyone, *known],
        key_sources=[{"header": "authorization"}, {"header": KEY_HEADER}],
        forwarding={"header": TENANT_HEADER, "hide_credentials": True},
    )


def _client(tenant: GatewayTenant, key: GatewayKey) -> str:
    return tenant.name if Scope.PREDICT in key.scopes else f"{tenant.name}{_NO_PREDICT}"


def _rules(tenants: Iterable[GatewayTenant]) -> Json:
    blocked = [is_exactly(TENANT_HEADER, name) for name in _in(tenants, TenantState.BLOCKED)]
    unable = {"name": TENANT_HEADER, "string_match": {"suffix": _NO_PREDICT}}
    policies = {NO_SCOPE: _policy([unable])} | ({BLOCKED: _policy(blocked)} if blocked else {})
    rules = {"action": "DENY", "policies": policies}
    return extension("envoy.filters.http.rbac", "envoy.extensions.filters.http.rbac.v3.RBAC", rules=rules)


def _policy(headers: list[Json]) -> Json:
    return {"permissions": [{"any": True}], "principals": [{"header": header} for header in headers]}


def _draining(names: list[str]) -> Json:
    """Answer 503 to every new request of some tenants; Envoy's filter for tried failures does just that."""
    return extension(
        "envoy.filters.http.fault",
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        abort={"http_status": 503, "percentage": {"numerator": 100}},
        headers=[{"name": TENANT_HEADER, "string_match": {"safe_regex": {"regex": "|".join(names)}}}],
    )


def _in(tenants: Iterable[GatewayTenant], state: TenantState) -> list[str]:
    return [tenant.name for tenant in tenants if tenant.state is state]


def _buckets(tenant: GatewayTenant, plan: GatewayPlan) -> Iterator[Json]:
    if tenant.requests_per_s is not None:
        depth = tenant.burst or max(1, round(tenant.requests_per_s))
        yield _bucket("requests", tenant.name, depth, tenant.requests_per_s)
    if tenant.bytes_per_s is not None:
        # Deep enough for one body of the largest size, or a tenant could never send it.
        yield _bucket("bytes", tenant.name, max(tenant.bytes_per_s, plan.max_body_bytes), tenant.bytes_per_s)


def _bucket(kind: str, tenant: str, depth: int, per_s: float) -> Json:
    fill = max(1, round(per_s))
    bucket = {"max_tokens": depth, "tokens_per_fill": fill, "fill_interval": f"{fill / per_s:.3f}s"}
    return {"entries": [{"key": kind, "value": tenant}], "token_bucket": bucket}


def _requests() -> Json:
    return {"actions": [_by_tenant("requests")]}


def _bytes() -> Json:
    return {
        "actions": [_by_tenant("bytes")],
        "hits_addend": {"format": "%REQ(CONTENT-LENGTH)%"},
        "x_ratelimit_option": "OFF",  # the headers speak of requests
    }


def _by_tenant(kind: str) -> Json:
    return {"request_headers": {"header_name": TENANT_HEADER, "descriptor_key": kind}}
