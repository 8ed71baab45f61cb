"""What is asked of the load generator and what it measures: records only."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from registry.records.base import Record
from registry.records.benchmark import Interval


class Wire(StrEnum):
    """How a request travels."""

    HTTP = "http"
    GRPC = "grpc"


class Target(Record):
    """One request to one server, sent again and again."""

    name: str
    server: str = Field(description="Who answers; several targets may share a server.")
    wire: Wire = Wire.HTTP
    ports: tuple[int, ...] = Field(description="On loopback; connections are spread over them evenly.")
    path: str = Field(description="Of the URL, or the full name of the method.")
    headers: dict[str, str] = Field(default_factory=dict)
    body: Path
    settled: str = Field(default="", description="How the server was set up, in a few words.")


class LoadJob(Record):
    """One round: a target under load from some connections, each of which waits for its answer before it asks again."""

    target: Target
    connections: int = Field(ge=1)
    warm_seconds: float = Field(ge=0, description="Under load before anything is counted.")
    seconds: float = Field(gt=0)
    pids: tuple[int, ...] = Field(description="The server's processes, whose CPU time is read.")


class Round(Record):
    """What one round measured."""

    target: str
    connections: int
    seconds: float
    requests: int
    errors: int = Field(description="Answers other than a success, and connections that were lost.")
    first_error: str = ""
    p50_ms: float
    p99_ms: float
    server_cpu: float = Field(description="CPU time of the server's processes over the time of the round.")
    client_cpu: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


class Standing(Record):
    """A target under a number of connections: the median round."""

    target: str
    settled: str
    connections: int
    rate: Interval = Field(description="Requests a second.")
    p50_ms: Interval
    p99_ms: Interval
    server_cpu: float = Field(description="Cores that the server's processes used.")
    client_cpu: float = Field(description="Cores that the load generator used.")
    rate_per_core: float = Field(description="Requests for each second of CPU time of the server.")
    requests: int = Field(description="Of all rounds.")
    errors: int
    first_error: str
