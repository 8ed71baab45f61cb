"""The door that clients reach: HTTP/1.1 and HTTP/2 on one port, with or without TLS, and what is refused at once."""

from pathlib import Path

from registry.records.tenant import TENANT_HEADER
from serving.gateway.access import KEY_HEADER, NO_KEY
from serving.gateway.answers import is_rpc, local_replies
from serving.gateway.filters import http_filters
from serving.gateway.plan import GatewayPlan, Tls
from serving.gateway.routes import MODEL_HEADER, ROUTES
from serving.gateway.typed import (
    Json,
    address,
    discovery,
    extension,
    message,
    remove_header,
    seconds,
    set_header,
    watched,
)

ROUTES_FILE = "rds.json"
CERTIFICATE_FILE = "sds.json"
CERTIFICATE = "gateway"
STATISTICS = "gateway"
"""Before the names of its counters."""

_ACCESS_LOG_FIELDS = {
    "time": "%START_TIME%",
    "tenant": f"%REQ({TENANT_HEADER})%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "worker": "%UPSTREAM_HOST%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def listeners(plan: GatewayPlan, folder: Path) -> Json:
    """Return the listener, as an LDS answer."""
    chain: Json = {"filters": [_http(plan, folder)]}
    if plan.tls is not None:
        chain["transport_socket"] = _tls(folder)
    return discovery(
        [
            message(
                "envoy.config.listener.v3.Listener",
                name="gateway",
                address=address(plan.host, plan.port),
                filter_chains=[chain],
            )
        ]
    )


def certificate(tls: Tls) -> Json:
    """Return the certificate, as an SDS answer."""
    return discovery(
        [
            message(
                "envoy.extensions.transport_sockets.tls.v3.Secret",
                name=CERTIFICATE,
                tls_certificate={
                    "certificate_chain": {"filename": str(tls.certificate)},
                    "private_key": {"filename": str(tls.key)},
                    "watched_directory": {"path": str(tls.certificate.parent)},
                },
            )
        ]
    )


def _tls(folder: Path) -> Json:
    secret = {"name": CERTIFICATE, "sds_config": watched(folder, CERTIFICATE_FILE)}
    context = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [secret],
    }
    kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    return extension("envoy.transport_sockets.tls", kind, common_tls_context=context)


def _http(plan: GatewayPlan, folder: Path) -> Json:
    return extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=STATISTICS,
        codec_type="AUTO",
        rds={"route_config_name": ROUTES, "config_source": watched(folder, ROUTES_FILE)},
        http_filters=http_filters(plan, folder),
        local_reply_config=local_replies(),
        access_log=[_access_log(plan, rpc=False), _access_log(plan, rpc=True)],
        early_header_mutation_extensions=[_only_ours()],
        use_remote_address=True,
        preserve_external_request_id=True,  # a client's own id is what its feedback will name
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        max_request_headers_kb=plan.max_header_kib,
        common_http_protocol_options={"idle_timeout": "300s", "headers_with_underscores_action": "REJECT_REQUEST"},
        request_headers_timeout=seconds(plan.header_timeout_s),
        stream_idle_timeout=seconds(max(plan.body_timeout_s, plan.request_timeout_s)),
    )


def _only_ours() -> Json:
    """Before anything reads them: the headers that only the gateway sets, and a key of their own for those without."""
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            remove_header(TENANT_HEADER),
            remove_header(MODEL_HEADER),
            set_header(KEY_HEADER, NO_KEY, action="ADD_IF_ABSENT"),
        ],
    )


def _access_log(plan: GatewayPlan, *, rpc: bool) -> Json:
    """The lines of one protocol: the model is what a gRPC message named, or what answered over REST."""
    model = f"%REQ({MODEL_HEADER})%" if rpc else f"%RESP({MODEL_HEADER})%"
    logger = extension(
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=str(plan.access_log),
        log_format={"json_format": {**_ACCESS_LOG_FIELDS, "model": model}},
    )
    return {**logger, "filter": is_rpc(invert=not rpc)}
