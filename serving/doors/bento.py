"""The BentoML service that hosts the engine: a typed endpoint for people and tools, and the REST door beside it.

This module is an entry point: importing it reads ``BURNISH_ENGINE_*``. Start it with::

    python -P -m bentoml serve serving.doors.bento:EngineService --host 127.0.0.1 --port 3000

with ``BENTOML_DO_NOT_TRACK=true`` and ``PYTHONSAFEPATH=1`` in the environment, in a working folder that holds no
Python package: BentoML puts that folder first on the path of every worker.
"""

import asyncio
import gc
from http import HTTPStatus
from typing import Any

import bentoml

from registry.errors import BurnishError, DeadlineExceeded, InputError, ModelNotFound, QueueFull, TransientError
from registry.records.tenant import TENANT_HEADER
from registry.store.artifacts_local import LocalArtifacts
from registry.store.base import ArtifactStore
from serving.doors.grpc_server import grpc_server
from serving.doors.requests import new_request_id
from serving.doors.rest import rest_server
from serving.engine.tensors import from_lists, to_lists
from serving.engine.urgency import Urgency
from serving.engine.watchdog import Watchdog
from serving.engine.worker import Worker
from serving.logs import write_logs
from serving.settings import GRPC, REST, EngineSettings

PORTS_PER_WORKER = 10
ENDING_SPARE_SECONDS = 5.0
"""Beyond the drain time, for unloading; a process that needs longer is ended."""

SETTINGS = EngineSettings()


@bentoml.service(
    name="burnish_engine",
    workers=SETTINGS.workers,
    logging={"access": {"enabled": False}},
)
class EngineService:
    """Every model of the catalog, by version or by what is live."""

    def __init__(self) -> None:
        """Build the worker; its loop is not running yet."""
        write_logs(SETTINGS.log_format)
        # BentoML counts its workers from 1, and gives none to a service that runs in its own process.
        index = (bentoml.server_context.worker_index or 1) - 1
        self._worker = Worker(SETTINGS, _artifacts(SETTINGS), index)
        self._rest = rest_server(self._worker, SETTINGS.max_body_bytes, SETTINGS.drain_seconds)
        self._grpc = grpc_server(self._worker, SETTINGS.max_body_bytes, SETTINGS.drain_seconds, SETTINGS.max_grpc_calls)
        self._watchdog = Watchdog(self._worker, SETTINGS.stall_seconds, SETTINGS.drain_seconds + ENDING_SPARE_SECONDS)

    @bentoml.on_startup
    async def open_doors(self) -> None:
        """Read the catalog, then open this worker's own doors: REST on a port, gRPC on the next, each at a file too."""
        self._worker.guard.begin()
        self._watchdog.start()
        await self._worker.start()
        # A full collection would look at the libraries' objects each time, and stop all requests for tens of ms.
        gc.collect()
        gc.freeze()
        index = self._worker.identity.index
        port = SETTINGS.door_port + PORTS_PER_WORKER * index
        files = SETTINGS.sockets_folder(index)
        await self._rest.open(SETTINGS.host, port, files and files / REST)
        await self._grpc.open(SETTINGS.host, port + 1, files and files / GRPC)

    @bentoml.on_shutdown
    async def close_doors(self) -> None:
        """Report not ready, finish what is in flight within the drain time, then unload."""
        self._worker.draining = True
        await self._watchdog.stop()
        await asyncio.gather(self._rest.close(), self._grpc.close())
        await self._worker.stop()
        self._worker.guard.close()

    @bentoml.api
    async def predict(
        self,
        model: str,
        inputs: dict[str, list[Any]],
        version: int | None = None,
        parameters: dict[str, Any] | None = None,
        *,
        ctx: bentoml.Context,
    ) -> dict[str, Any]:
        """Compute a model's outputs from nested lists by input name, on a version or on what is live.

        ``parameters`` may hold ``priority`` and ``timeout`` (microseconds), as those of the protocol's requests.
        """
        request_id, tenant = new_request_id(), ctx.request.headers.get(TENANT_HEADER)
        try:
            slot = self._worker.engine.route(model, version, request_id, tenant)
            urgency = Urgency.of(parameters or {})
            arrays = from_lists(slot.plan, inputs, finite=slot.finite_only)
            answer = await self._worker.engine.infer(slot, request_id, arrays, urgency)
            outputs = to_lists(slot.plan, answer.outputs)
        except BurnishError as error:
            raise _bento_error(error) from error
        return {
            "model": model,
            "version": slot.served.version,
            "artifact": slot.served.artifact.sha256,
            "request_id": request_id,
            "outputs": outputs,
        }


def _artifacts(settings: EngineSettings) -> ArtifactStore:
    if settings.artifacts_url:
        from registry.store.artifacts_s3 import S3Artifacts  # 0.1 s of each start, and few need it

        return S3Artifacts.connect(settings.artifacts_url, settings.s3_endpoint_url, settings.artifacts_folder)
    return LocalArtifacts(settings.artifacts_folder)


def _bento_error(error: BurnishError) -> bentoml.exceptions.BentoMLException:
    if isinstance(error, InputError):
        return bentoml.exceptions.InvalidArgument(str(error))
    if isinstance(error, ModelNotFound):
        return bentoml.exceptions.NotFound(str(error))
    if isinstance(error, QueueFull):
        return bentoml.exceptions.BentoMLException(str(error), error_code=HTTPStatus.TOO_MANY_REQUESTS)
    if isinstance(error, DeadlineExceeded):
        return bentoml.exceptions.BentoMLException(str(error), error_code=HTTPStatus.GATEWAY_TIMEOUT)
    if isinstance(error, TransientError):
        return bentoml.exceptions.ServiceUnavailable(str(error))
    return bentoml.exceptions.InternalServerError(str(error))
