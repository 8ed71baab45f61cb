"""What the REST door tells of the server, its models and this worker: everything but inference.

A tenant's requests see its own models, by the names that it gives them. What concerns the whole worker is for whoever
operates it, and is not there for them.
"""

from collections.abc import Callable, Coroutine
from importlib.metadata import version as installed_version
from typing import Any

import orjson

from registry.errors import BurnishError
from serving.doors import openapi
from serving.doors.http_messages import Reply, Request
from serving.doors.requests import parse_version
from serving.doors.rest_headers import RequestHeaders
from serving.doors.rest_refusals import JSON, Refused
from serving.engine.exposition import CONTENT_TYPE
from serving.engine.metrics import Metrics
from serving.engine.oip import encode_model
from serving.engine.oip_repository import check_load, check_unload, encode_index, encode_statistics, parse_index
from serving.engine.slices import json_object
from serving.engine.worker import Worker

EXTENSIONS = ("binary_tensor_data", "model_repository", "openapi", "schedule_policy", "statistics")

Failed = Callable[[Refused | BurnishError, RequestHeaders], Reply]


class RestState:
    """Answers every path but those of inference."""

    def __init__(self, worker: Worker, failed: Failed) -> None:
        """Take the worker, and what answers a request that fails later."""
        self._worker = worker
        self._failed = failed
        self._metrics = Metrics(worker)
        version = installed_version("burnish")
        self._documents = {
            "/v2": orjson.dumps({"name": "burnish", "version": version, "extensions": list(EXTENSIONS)}),
            "/v2/openapi.json": orjson.dumps(openapi.document(version)),
        }

    def __call__(self, http: Request, headers: RequestHeaders) -> Reply | Coroutine[Any, Any, Reply]:
        """Answer one request.

        Raises:
            Refused: there is nothing at this path, or it takes another method.
            BurnishError: the model cannot be told of.
        """
        if http.path in self._documents:
            allow(http, "GET")
            return _written(self._documents[http.path], headers)
        match http.path.split("/")[1:]:
            case ["v2", "health", "live"]:
                allow(http, "GET")
                return _reply(200, {"live": True}, headers)
            case ["v2", "health", "ready"]:
                allow(http, "GET")
                ready = self._worker.ready
                return _reply(200 if ready else 503, {"ready": ready}, headers)
            case ["v2", "models", *rest] if rest:
                allow(http, "GET")
                return self._model(rest, headers, http.path)
            case ["v2", "repository", *rest]:
                allow(http, "POST")
                return self._repository(rest, http, headers)
        if headers.tenant is None:
            return self._of_worker(http, headers)
        raise nothing_at(http.path)

    def _of_worker(self, http: Request, headers: RequestHeaders) -> Reply | Coroutine[Any, Any, Reply]:
        match http.path.split("/")[1:]:
            case ["burnish", *rest]:
                allow(http, "GET")
                return self._worker_state(rest, headers, http.path)
            case ["metrics"]:
                allow(http, "GET")
                return self._tell_metrics(headers)
        raise nothing_at(http.path)

    def _worker_state(self, rest: list[str], headers: RequestHeaders, path: str) -> Reply | Coroutine[Any, Any, Reply]:
        match rest:
            case ["catalog"]:
                return self._listed(self._catalog(), headers)
            case ["catalog", model]:
                return self._looked(model, headers)
            case ["resident"]:
                return _reply(200, self._worker.resident(), headers)
            case ["usage"]:
                return self._listed(self._usage(), headers)
        raise nothing_at(path)

    async def _looked(self, model: str, headers: RequestHeaders) -> Reply:
        try:
            return _reply(200, await self._worker.look(model), headers)
        except BurnishError as error:
            return self._failed(error, headers)

    async def _catalog(self) -> bytes:
        models = await json_object(self._worker.model_statuses())
        return orjson.dumps({**self._worker.status(), "models": orjson.Fragment(models)})

    async def _usage(self) -> bytes:
        models = await json_object(self._worker.usage())
        return orjson.dumps({"boot": self._worker.boot, "models": orjson.Fragment(models)})

    async def _listed(self, body: Coroutine[Any, Any, bytes], headers: RequestHeaders) -> Reply:
        """Answer with a list that is made a slice at a time."""
        try:
            return _written(await body, headers)
        except BurnishError as error:
            return self._failed(error, headers)

    async def _tell_metrics(self, headers: RequestHeaders) -> Reply:
        return Reply(200, await self._metrics.render(), [(b"content-type", CONTENT_TYPE), headers.id_header])

    def _model(self, rest: list[str], headers: RequestHeaders, path: str) -> Reply | Coroutine[Any, Any, Reply]:
        repository, tenant = self._worker.repository, headers.tenant
        match rest:
            case ["stats"]:
                return self._listed(encode_statistics(repository.statistics(None, None, tenant)), headers)
            case [model, *what]:
                version = None
            case _:
                raise nothing_at(path)
        if what[:1] == ["versions"] and len(what) > 1:
            version, what = parse_version(what[1]), what[2:]
        if what == ["ready"]:
            ready = repository.ready(model, version, tenant)
            return _reply(200 if ready else 503, {"name": model, "ready": ready}, headers)
        if what == ["stats"]:
            return self._listed(encode_statistics(repository.statistics(model, version, tenant)), headers)
        if what == []:
            return _written(encode_model(model, *repository.version(model, version, tenant)), headers)
        raise nothing_at(path)

    def _repository(
        self, rest: list[str], http: Request, headers: RequestHeaders
    ) -> Reply | Coroutine[Any, Any, Reply]:
        repository = self._worker.repository
        match rest:
            case ["index"]:
                index = repository.index(headers.tenant, ready=parse_index(http.body))
                return self._listed(encode_index(index), headers)
            case ["models", model, "load"]:
                check_load(http.body)
                return self._load(model, headers)
            case ["models", model, "unload"]:
                check_unload(http.body)
                repository.unload(model, headers.tenant)
                return _reply(200, {}, headers)
        raise nothing_at(http.path)

    async def _load(self, model: str, headers: RequestHeaders) -> Reply:
        try:
            await self._worker.repository.load(model, headers.tenant)
        except BurnishError as error:
            return self._failed(error, headers)
        return _reply(200, {}, headers)


def allow(request: Request, method: str) -> None:
    """Check the method of a request.

    Raises:
        Refused: its path takes another one.
    """
    if request.method != method:
        raise Refused(405, f"{request.path:.200} takes {method} only", (b"allow", method.encode()))


def nothing_at(path: str) -> Refused:
    """Return the refusal of a path that there is not."""
    return Refused(404, f"there is nothing at {path:.200}")


def _reply(status: int, value: object, headers: RequestHeaders) -> Reply:
    return Reply(status, orjson.dumps(value), [JSON, headers.id_header])


def _written(body: bytes, headers: RequestHeaders) -> Reply:
    return Reply(200, body, [JSON, headers.id_header])
