"""What a request passes on its way to a worker, in this order.

The answer's headers (on the way back) · key and tenant · size · the whole body · limits · model · route.
"""

from base64 import b64encode
from pathlib import Path

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from serving.doors.protocol import open_inference_pb2
from serving.gateway.access import ACCESS, CHAIN_TYPE, LIMITS, LIMITS_TYPE
from serving.gateway.plan import GatewayPlan
from serving.gateway.routes import FOUND_IN_RPC, GRPC_SERVICE, MODEL_FILTER, SIZE_FILTER, WHOLE_FILTER
from serving.gateway.typed import Json, extension, remove_header, set_header, watched

ACCESS_FILE = "access.json"
LIMITS_FILE = "limits.json"

_MUTATION = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
_MODEL_FIELDS = {
    "ModelInfer": "model_name",
    "ModelReady": "name",
    "ModelMetadata": "name",
    "ModelStatistics": "name",
    "RepositoryModelLoad": "model_name",
    "RepositoryModelUnload": "model_name",
}


def http_filters(plan: GatewayPlan, folder: Path) -> list[Json]:
    """Return the filters of every request."""
    held = {"max_request_bytes": plan.max_body_bytes}
    # Names are read again for the route only where a route asks for them.
    again = [_match_again()] if plan.pools else []
    return [
        extension("burnish.answers", _MUTATION, mutations={"response_mutations": _limit_headers()}),
        _discovered(ACCESS, CHAIN_TYPE, folder, ACCESS_FILE),
        extension(SIZE_FILTER, "envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit", **held),
        # A worker hears of a request when all of it is here, so a slow or broken one costs it nothing; and the limit of
        # bytes is told of a body's size whether or not its sender has said it.
        extension(WHOLE_FILTER, "envoy.extensions.filters.http.buffer.v3.Buffer", **held),
        _discovered(LIMITS, LIMITS_TYPE, folder, LIMITS_FILE),
        _names_in_messages(),
        extension(MODEL_FILTER, _MUTATION),  # what it does stands in the routes
        *again,
        extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
    ]


def _discovered(name: str, kind: str, folder: Path, file: str) -> Json:
    source = {"config_source": watched(folder, file), "type_urls": [f"type.googleapis.com/{kind}"]}
    return {"name": name, "config_discovery": source}


def _limit_headers() -> list[Json]:
    """The names of the IETF's draft, where Envoy has those of an older one."""
    found = []
    for name in ("limit", "remaining", "reset"):
        found += [set_header(f"ratelimit-{name}", f"%RESP(X-RATELIMIT-{name.upper()})%")]
        found += [remove_header(f"x-ratelimit-{name}")]
    return found


def _names_in_messages() -> Json:
    """Reads the model's name out of a gRPC message, so that a client need not say it twice."""
    return extension(
        FOUND_IN_RPC,
        "envoy.extensions.filters.http.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
        descriptor_set={"inline_bytes": b64encode(_messages()).decode()},
        extractions_by_method={
            f"{GRPC_SERVICE}.{method}": {"request_field_extractions": {field: {"metadata_key": "model"}}}
            for method, field in _MODEL_FIELDS.items()
        },
    )


def _messages() -> bytes:
    """Describe the requests that name a model, by that one field: the rest of a message is skipped unread."""
    files = FileDescriptorSet()
    package, _, service_name = GRPC_SERVICE.rpartition(".")
    file = files.file.add(name="names.proto", package=package, syntax="proto3")
    service = file.service.add(name=service_name)
    for method, field in _MODEL_FIELDS.items():
        name = f"{method}Request"
        number = open_inference_pb2.DESCRIPTOR.message_types_by_name[name].fields_by_name[field].number
        kind, label = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.LABEL_OPTIONAL
        file.message_type.add(name=name).field.add(name=field, number=number, type=kind, label=label)
        service.method.add(name=method, input_type=f".{package}.{name}", output_type=f".{package}.{name}")
    described: bytes = files.SerializeToString()
    return described


def _match_again() -> Json:
    """Chooses the route again, now that the model is known."""
    state = {
        "object_key": "burnish.routed",
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": "yes"}},
    }
    kind = "envoy.extensions.filters.http.set_filter_state.v3.Config"
    return extension("burnish.route", kind, on_request_headers=[state], clear_route_cache=True)
