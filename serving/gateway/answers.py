"""What the gateway says when it answers itself: the Open Inference Protocol's error body, and what to do about it."""

from registry.records.tenant import Scope
from serving.gateway.access import BLOCKED, NO_SCOPE
from serving.gateway.typed import Json, message

DRAIN_RETRY_S = 5
_WORKER_RETRY_S = 1

_NO_KEY = "no valid API key: send one as `Authorization: Bearer KEY` or as `x-api-key: KEY`"
_SCOPE = f"this API key lacks the scope `{Scope.PREDICT}`"
_BLOCKED = "this tenant is blocked; ask who runs this gateway"
_MESSAGES = {
    400: "the request is malformed, or its path or headers hide something",
    401: _NO_KEY,
    403: "the gateway takes no CONNECT, no upgrade (websocket), and no `https` URL on a connection in the clear",
    404: "there is nothing at this path; the Open Inference Protocol's paths begin with /v2",
    408: "the request did not arrive in time",
    413: "the request's body is too large",
    426: "this version of HTTP is not spoken here; 1.1 and 2 are",
    431: "the request's headers are too large or too many",
    429: "this tenant sends more than its limits allow; try again after the time in `Retry-After`",
    500: "the gateway is not configured; see its log",
    501: "the request's `transfer-encoding` is not known here",
    504: "no worker answered in time",
}


def local_replies() -> Json:
    """Return how Envoy's own answers look: JSON for REST, a plain message in `grpc-message` for gRPC."""
    cases = [
        _case(_details(f"[{NO_SCOPE}]"), _SCOPE),
        _case(_details(f"[{BLOCKED}]"), _BLOCKED),
        _case(_flag("FI"), "this tenant is being drained; try again later", retry_s=DRAIN_RETRY_S),
        _case(_flag("UH"), "no worker is ready", retry_s=_WORKER_RETRY_S),
        *(_case(_status(status), text) for status, text in _MESSAGES.items()),
    ]
    plain = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}}
    for_rpc = [{**case, "filter": _both(is_rpc(), case["filter"]), "body_format_override": plain} for case in cases]
    rest_of_rpc = {"filter": is_rpc(), "body_format_override": plain}
    error = {"json_format": {"error": "%LOCAL_REPLY_BODY%"}, "content_type": "application/json"}
    return {"mappers": [*for_rpc, rest_of_rpc, *cases], "body_format": error}


def _case(which: Json, text: str, retry_s: int | None = None) -> Json:
    headers = [{"header": {"key": "retry-after", "value": str(retry_s)}}] if retry_s is not None else []
    return {"filter": which, "body": {"inline_string": text}, "headers_to_add": headers}


def _status(status: int) -> Json:
    value = {"default_value": status, "runtime_key": f"gateway.status_{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _flag(flag: str) -> Json:
    return {"response_flag_filter": {"flags": [flag]}}


def _details(text: str) -> Json:
    kind = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    config = message(kind, expression=f"response.code_details.contains('{text}')")
    return {"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": config}}


def is_rpc(*, invert: bool = False) -> Json:
    """Return the filter of what was asked by gRPC, or of all else."""
    of_kind = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    # Without the last, a request that has no such header would be neither.
    matched = {**of_kind, "invert_match": invert, "treat_missing_header_as_empty": True}
    return {"header_filter": {"header": matched}}


def _both(first: Json, second: Json) -> Json:
    return {"and_filter": {"filters": [first, second]}}
