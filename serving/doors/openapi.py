"""The REST door as an OpenAPI 3.1 document; a test holds the door to it.

Source: https://spec.openapis.org/oas/v3.1.0.
"""

from typing import Any

from registry.records.model import Datatype
from serving.engine.oip import MAX_ID_LENGTH

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}
_DATATYPE: Schema = {"type": "string", "enum": [datatype.value for datatype in Datatype]}
_SIZES: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}}
_VERSION: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"}
_ID: Schema = {"type": "string", "pattern": r"^[\x21-\x7e]{1,128}$"}
_PARAMETERS: Schema = {
    "type": ["object", "null"],
    "additionalProperties": {"type": ["string", "number", "boolean"]},
    "description": "Those that are not known are ignored.",
}
_VALUES: Schema = {
    "type": "array",
    "description": "Row by row, flat or nested as the shape. BYTES are strings; NaN in an answer is null.",
}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None, *, closed: bool = False) -> Schema:
    schema: Schema = {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}
    return {**schema, "additionalProperties": False} if closed else schema


def _list(of: str) -> Schema:
    return {"type": "array", "items": _reference(of)}


def _at_least_one(of: str) -> Schema:
    return {**_list(of), "minItems": 1}


_DURATION = _object({"count": _COUNT, "ns": _COUNT})
_TENSOR_METADATA = _object(
    {"name": _TEXT, "datatype": _DATATYPE, "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}}}
)

_SCHEMAS: dict[str, Schema] = {
    "Error": _object({"error": _TEXT}, closed=True),
    "InferRequest": _object(
        {"inputs": _at_least_one("RequestInput")},
        {
            "id": {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_ID_LENGTH},
            "model_name": {"description": "Says nothing: the path names the model."},
            "outputs": {"oneOf": [_at_least_one("RequestOutput"), {"type": "null"}]},
            "parameters": {
                **_PARAMETERS,
                "properties": {"binary_data_output": _FLAG, "priority": _COUNT, "timeout": _COUNT},
            },
        },
        closed=True,
    ),
    "RequestInput": _object(
        {"name": _TEXT, "datatype": _DATATYPE, "shape": _SIZES},
        {"data": _VALUES, "parameters": {**_PARAMETERS, "properties": {"binary_data_size": _COUNT}}},
        closed=True,
    ),
    "RequestOutput": _object(
        {"name": _TEXT}, {"parameters": {**_PARAMETERS, "properties": {"binary_data": _FLAG}}}, closed=True
    ),
    "InferResponse": _object(
        {
            "model_name": _TEXT,
            "model_version": _VERSION,
            "id": _TEXT,
            "parameters": _object({"artifact": _TEXT, "request_id": _TEXT}),
            "outputs": _list("ResponseOutput"),
        }
    ),
    "ResponseOutput": _object({"name": _TEXT, "datatype": _DATATYPE, "shape": _SIZES}, {"data": _VALUES}),
    "Server": _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
    "Model": _object(
        {
            "name": _TEXT,
            "versions": {"type": "array", "items": _VERSION},
            "platform": _TEXT,
            "inputs": {"type": "array", "items": _TENSOR_METADATA},
            "outputs": {"type": "array", "items": _TENSOR_METADATA},
            "parameters": _object({"version": _VERSION, "artifact": _TEXT}),
        }
    ),
    "Statistics": _object(
        {
            "model_stats": {
                "type": "array",
                "items": _object(
                    {
                        "name": _TEXT,
                        "version": _VERSION,
                        "last_inference": _COUNT,
                        "inference_count": _COUNT,
                        "execution_count": _COUNT,
                        "inference_stats": _object(dict.fromkeys(("success", "fail", "queue"), _DURATION)),
                        "batch_stats": {"type": "array", "items": _object({"batch_size": _COUNT})},
                    }
                ),
            }
        }
    ),
    "IndexEntry": _object({"name": _TEXT, "version": _VERSION, "state": _TEXT, "reason": _TEXT}),
}

_MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[^/]+$"}}
_NUMBER = {"name": "version", "in": "path", "required": True, "schema": _VERSION}
_REQUEST_ID = {
    "name": "x-request-id",
    "in": "header",
    "schema": _ID,
    "description": "Names the request in the answer; without it one is made.",
}
_UNIT = {
    "name": "x-burnish-unit",
    "in": "header",
    "schema": _ID,
    "description": "Whoever asks: all requests of a unit go to the same version while the shares of traffic stay.",
}
_JSON_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "schema": {"type": "integer", "minimum": 0},
    "description": "Bytes of the JSON, where those of binary tensors stand behind it; 0: the body is the only input.",
}

_ANSWER_HEADERS = {
    name: {"schema": _TEXT} for name in ("x-request-id", "x-burnish-model", "x-burnish-version", "x-burnish-artifact")
}
_OF_HTTP = {
    "400": "a part of the request is wrong; the message names it",
    "408": "the request did not come in time",
    "413": "the body is too large",
    "415": "the body's content-encoding is unknown",
    "431": "the headers are too large or too many",
    "501": "the transfer-encoding is unknown",
    "505": "another version of HTTP",
}
_OF_MODELS = {
    "404": "no such model or version",
    "503": "the model cannot answer now; see Retry-After",
}
_OF_INFERENCE = {
    "429": "too many requests wait; see Retry-After",
    "500": "the model failed on this request",
    "504": "the deadline passed before the model could answer",
}


def document(version: str) -> Schema:
    """Return the document of the door of one version of Burnish."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Burnish: Open Inference Protocol v2 over REST", "version": version},
        "paths": {**_server_paths(), **_model_paths(), **_repository_paths()},
        "components": {"schemas": _SCHEMAS},
    }


def _server_paths() -> Schema:
    live, ready = _object({"live": _FLAG}), _object({"ready": _FLAG})
    return {
        "/v2": {"get": _operation("What the server is and offers", _reference("Server"))},
        "/v2/health/live": {"get": _operation("The process answers", live)},
        "/v2/health/ready": {"get": _operation("Models can be asked", ready, {"503": (ready, "not ready")})},
        "/v2/openapi.json": {"get": _operation("This document", {"type": "object"})},
        "/burnish/catalog": {"get": _operation("What this worker serves", {"type": "object"})},
        "/burnish/usage": {"get": _operation("What each model did in this process", {"type": "object"})},
        "/metrics": {"get": _operation("Counters of every worker, for Prometheus", _TEXT, content_type="text/plain")},
    }


def _model_paths() -> Schema:
    paths: Schema = {
        "/v2/models/stats": {"get": _operation("Counters of every version", _reference("Statistics"), _OF_MODELS)}
    }
    ready = _object({"name": _TEXT, "ready": _FLAG})
    not_ready = {**_OF_MODELS, "503": ({"oneOf": [ready, _reference("Error")]}, "not ready")}
    for path, parameters, what in (
        ("/v2/models/{model}", [_MODEL], "of what is live"),
        ("/v2/models/{model}/versions/{version}", [_MODEL, _NUMBER], "of a version by its number"),
    ):
        described = {
            "": _operation(f"Metadata {what}", _reference("Model"), _OF_MODELS),
            "/ready": _operation(f"Readiness {what}", ready, not_ready),
            "/stats": _operation(f"Counters {what}", _reference("Statistics"), _OF_MODELS),
        }
        paths |= {path + end: {"parameters": parameters, "get": operation} for end, operation in described.items()}
        paths[f"{path}/infer"] = {"parameters": parameters, "post": _infer(what)}
    return paths


def _repository_paths() -> Schema:
    index = _operation("Every version and its state", {"type": "array", "items": _reference("IndexEntry")})
    index["requestBody"] = _optional({"ready": _FLAG})
    paths: Schema = {"/v2/repository/index": {"post": index}}
    for what in ("load", "unload"):
        operation = _operation(f"{what.capitalize()} a model", {"type": "object"}, _OF_MODELS)
        operation["requestBody"] = _optional({"parameters": {"type": "object"}})
        paths[f"/v2/repository/models/{{model}}/{what}"] = {"parameters": [_MODEL], "post": operation}
    return paths


def _infer(what: str) -> Schema:
    operation = _operation(f"Inference {what}", _reference("InferResponse"), {**_OF_MODELS, **_OF_INFERENCE})
    operation["parameters"] += [_UNIT, _JSON_LENGTH]
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": _reference("InferRequest")}, "application/octet-stream": {}},
    }
    answered = operation["responses"]["200"]
    answered["headers"] = _ANSWER_HEADERS
    answered["content"]["application/octet-stream"] = {}
    return operation


def _optional(properties: dict[str, Schema]) -> Schema:
    return {"required": False, "content": {"application/json": {"schema": _object({}, properties)}}}


def _operation(
    summary: str,
    schema: Schema,
    failures: dict[str, Any] | None = None,
    *,
    content_type: str = "application/json",
) -> Schema:
    responses = {"200": {"description": summary, "content": {content_type: {"schema": schema}}}}
    for status, failure in sorted({**_OF_HTTP, **(failures or {})}.items()):
        answer, reason = failure if isinstance(failure, tuple) else (_reference("Error"), failure)
        responses[status] = {"description": reason, "content": {"application/json": {"schema": answer}}}
    return {"summary": summary, "parameters": [_REQUEST_ID], "responses": responses}
