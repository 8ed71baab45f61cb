"""What the gateway shall do, as a value; the configuration is built from it alone."""

from pathlib import Path

from pydantic import Field

from registry.records.base import Record


class Endpoint(Record):
    """The REST door of one engine worker."""

    host: str
    port: int = Field(ge=1, le=65535)


class GatewayPlan(Record):
    """One gateway in front of the engine's workers."""

    host: str = Field(default="127.0.0.1", description="The address that clients reach.")
    port: int = Field(ge=1, le=65535)
    admin_port: int = Field(ge=1, le=65535, description="Admin and metrics, always on 127.0.0.1.")
    workers: tuple[Endpoint, ...] = Field(min_length=1)
    access_log: Path = Field(description="One JSON line a request.")
    max_body_bytes: int = Field(default=64 * 2**20, ge=1, description="Larger request bodies are refused with 413.")
    request_timeout_s: float = Field(default=60.0, gt=0, description="From the last byte of a request to its answer.")
    health_interval_s: float = Field(default=1.0, gt=0, description="How often each worker's readiness is asked.")
