"""Where an engine finds its catalog, its artifacts and its doors: environment variables ``BURNISH_ENGINE_*``."""

import os
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

REST = "rest"
GRPC = "grpc"
"""The doors of a worker; their socket files are named so."""

LONGEST_SOCKET_PATH = 107
"""In bytes; the system takes no longer one."""


class EngineSettings(BaseSettings):
    """One engine process; every worker of it reads the same."""

    model_config = SettingsConfigDict(env_prefix="BURNISH_ENGINE_", frozen=True, extra="ignore", populate_by_name=True)

    catalog_folder: Path
    artifacts_folder: Path
    artifacts_url: str = Field(default="", description="s3://bucket/prefix; empty: artifacts_folder is the store.")
    s3_endpoint_url: str = ""
    capture_folder: Path
    capture_rate: float = Field(default=0.1, ge=0, le=1)
    capture_mib: int = Field(
        default=1024, ge=1, description="Captured requests beyond this size are removed, oldest first, over all models."
    )
    capture_days: float = Field(default=30.0, gt=0, description="Captured requests older than this are removed.")
    metrics_versions: int = Field(
        default=100, ge=1, description="Versions with series of their own in /metrics; the others are summed up."
    )
    log_format: Literal["json", "text"] = Field(default="json", description="json: one object a line.")
    otlp_endpoint: str = Field(
        default="",
        validation_alias=AliasChoices("BURNISH_ENGINE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Where traces go over OTLP/HTTP; also read from OTEL_EXPORTER_OTLP_ENDPOINT; empty: nowhere.",
    )
    service_name: str = Field(
        default="burnish",
        validation_alias=AliasChoices("BURNISH_ENGINE_SERVICE_NAME", "OTEL_SERVICE_NAME"),
        description="The name of the engine in traces; also read from OTEL_SERVICE_NAME.",
    )
    trace_rate: float = Field(
        default=0.0, ge=0, le=1, description="Share of the requests that came without a trace for which one is begun."
    )
    host: str = "127.0.0.1"
    door_port: int = Field(
        default=8100,
        description="REST door of worker 0, its gRPC door is the next port; worker i listens 10 x i higher.",
    )
    bento_port: int = 3000
    workers: int = Field(default=2, ge=1)
    resident_mib: int = Field(default=2048, ge=1, description="Memory budget for loaded models, per worker.")
    resident_threads: int = Field(default=256, ge=1, description="Threads that loaded models may have, per worker.")
    gpu_share: float = Field(default=0.9, gt=0, le=1, description="Share of each GPU's memory for all workers' models.")
    preload_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of the budget that is filled after a start by what was used most."
    )
    leak_mib: int = Field(
        default=512,
        ge=1,
        description="A worker that holds more than this beside versions, requests and cached answers is replaced.",
    )
    max_body_bytes: int = Field(default=64 * 2**20, ge=1, description="Larger request bodies are refused with 413.")
    max_waiting: int = Field(
        default=256,
        ge=1,
        description="Requests that may wait before one version; more get 429. A model's policy goes first.",
    )
    max_pending_mib: int = Field(
        default=256,
        ge=1,
        description="Memory for requests that wait or run, per worker; beyond it or a tenant's share they are refused.",
    )
    max_reading_mib: int = Field(default=2048, ge=1, description="Memory for requests that are being read, per worker.")
    max_grpc_calls: int = Field(default=1024, ge=1, description="gRPC calls and streams at a time, per worker.")
    drain_seconds: float = Field(default=20.0, gt=0, description="How long a stopping worker finishes what it has.")
    run_seconds: float = Field(default=60.0, gt=0, description="A run that takes longer has its worker replaced.")
    stall_seconds: float = Field(
        default=30.0, gt=0, description="A worker whose event loop stands still for longer is ended and replaced."
    )

    @property
    def state_folder(self) -> Path:
        """Where workers leave what the next one in their place must know: beside the captured requests."""
        return self.capture_folder.with_name("engine")

    def sockets_folder(self, worker: int) -> Path | None:
        """Return where a worker's doors listen at files too; None where their paths are too long for sockets."""
        folder = self.state_folder.absolute() / "doors" / f"{self.door_port}-{worker}"
        return folder if len(bytes(folder / GRPC)) <= LONGEST_SOCKET_PATH else None


def bento_environment(home: Path) -> dict[str, str]:
    """The environment of a process that builds or serves Bentos below a BENTOML_HOME: this one's, and no analytics."""
    return {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
