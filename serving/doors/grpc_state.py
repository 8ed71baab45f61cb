"""What the gRPC door tells of the server and its models: everything but inference.

A tenant's calls see its own models, by the names that it gives them.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version as installed_version
from typing import Any

from grpc_health.v1 import health_pb2

from serving.doors import oip_grpc
from serving.doors.grpc_health import check
from serving.doors.grpc_metadata import CallMetadata
from serving.doors.protocol import open_inference_pb2 as pb
from serving.doors.requests import parse_version
from serving.engine.oip_repository import refuse_override
from serving.engine.worker import Worker

EXTENSIONS = ("model_repository", "schedule_policy", "statistics")

Tell = Callable[[Any, CallMetadata], Awaitable[Any]]
"""Answers a request message with a response message."""


class GrpcState:
    """Answers every call of the inference service but those of inference."""

    def __init__(self, worker: Worker, service: str) -> None:
        """Take the worker that is told of, and the name of the inference service."""
        self._worker = worker
        self._service = service

    def calls(self) -> dict[str, tuple[Any, Tell]]:
        """All calls by their paths: the kind of their request, and what answers it."""
        tells: dict[str, Tell] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._repository_load,
            "RepositoryModelUnload": self._repository_unload,
        }
        calls = {f"/{self._service}/{name}": (getattr(pb, f"{name}Request"), tell) for name, tell in tells.items()}
        health = partial(check, self._worker, self._service)
        return {**calls, "/grpc.health.v1.Health/Check": (health_pb2.HealthCheckRequest, health)}

    async def _server_live(self, _: Any, __: CallMetadata) -> pb.ServerLiveResponse:  # noqa: ANN401
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, _: Any, __: CallMetadata) -> pb.ServerReadyResponse:  # noqa: ANN401
        return pb.ServerReadyResponse(ready=self._worker.ready)

    async def _server_metadata(self, _: Any, __: CallMetadata) -> pb.ServerMetadataResponse:  # noqa: ANN401
        return pb.ServerMetadataResponse(name="burnish", version=installed_version("burnish"), extensions=EXTENSIONS)

    async def _model_ready(self, request: Any, about: CallMetadata) -> pb.ModelReadyResponse:  # noqa: ANN401
        ready = self._worker.repository.ready(request.name, _version(request), about.tenant)
        return pb.ModelReadyResponse(ready=ready)

    async def _model_metadata(
        self,
        request: Any,  # noqa: ANN401
        about: CallMetadata,
    ) -> pb.ModelMetadataResponse:
        live, version = self._worker.repository.version(request.name, _version(request), about.tenant)
        return oip_grpc.encode_model(request.name, live, version)

    async def _model_statistics(
        self,
        request: Any,  # noqa: ANN401
        about: CallMetadata,
    ) -> pb.ModelStatisticsResponse:
        found = self._worker.repository.statistics(request.name or None, _version(request), about.tenant)
        return await oip_grpc.encode_statistics(found)

    async def _repository_index(
        self,
        request: Any,  # noqa: ANN401
        about: CallMetadata,
    ) -> pb.RepositoryIndexResponse:
        return await oip_grpc.encode_index(self._worker.repository.index(about.tenant, ready=request.ready))

    async def _repository_load(
        self,
        request: Any,  # noqa: ANN401
        about: CallMetadata,
    ) -> pb.RepositoryModelLoadResponse:
        refuse_override(request.parameters)
        await self._worker.repository.load(request.model_name, about.tenant)
        return pb.RepositoryModelLoadResponse()

    async def _repository_unload(
        self,
        request: Any,  # noqa: ANN401
        about: CallMetadata,
    ) -> pb.RepositoryModelUnloadResponse:
        self._worker.repository.unload(request.model_name, about.tenant)
        return pb.RepositoryModelUnloadResponse()


def _version(request: Any) -> int | None:  # noqa: ANN401
    return parse_version(request.version) if request.version else None
