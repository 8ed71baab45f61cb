"""Asks the engine's workers which generation of a model they serve, and what they count."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field

from registry.records.tenant import Counters, QualifiedName

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.1
_AT_ONCE = 16
_MAX_METRICS_BYTES = 32 * 2**20

T = TypeVar("T")


@dataclass(frozen=True)
class Acknowledgement:
    """Workers, by number, that serve a generation or a later one, and those that do not yet."""

    acknowledged: tuple[int, ...]
    pending: tuple[int, ...]


class UsageReading(BaseModel):
    """What one worker process has counted since it began, by qualified name; counters not known here are left out."""

    model_config = ConfigDict(frozen=True)

    boot: str = Field(min_length=1, max_length=64)
    models: dict[QualifiedName, Counters]


class Workers:
    """The engine's workers by the addresses of their REST doors."""

    def __init__(self, http: httpx.Client, door_urls: Sequence[str], *, wait_s: float) -> None:
        """Keep the addresses; ``wait_s`` bounds how long a release waits for all of them."""
        self._http = http
        self._door_urls = tuple(door_urls)
        self._wait_s = wait_s

    def await_generation(self, model: str, generation: int) -> Acknowledgement:
        """Wait, within the bound, until every worker serves this generation of a model.

        A worker that is asked looks at the model's catalog file at once, so the first question is what makes it load.
        A worker that refuses connections is not waited for: it serves nothing, and reads the catalog when it starts.
        """
        deadline = time.monotonic() + self._wait_s
        waited_for = set(range(len(self._door_urls)))
        acknowledged: set[int] = set()
        pause = _FIRST_PAUSE_S
        while waited_for:
            served = {worker: self._generation(worker, model) for worker in waited_for}
            acknowledged |= {worker for worker, found in served.items() if found is not None and found >= generation}
            waited_for = {worker for worker, found in served.items() if found is not None and found < generation}
            if not waited_for or time.monotonic() >= deadline:
                break
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        pending = set(range(len(self._door_urls))) - acknowledged
        return Acknowledgement(tuple(sorted(acknowledged)), tuple(sorted(pending)))

    def dropped_captures(self) -> int:
        """Return how many sampled requests were not kept since the workers that answer now have started."""
        return sum(self._ask_all(self._dropped))

    def metrics(self) -> tuple[str | None, ...]:
        """Return what each worker tells Prometheus, by number; None for one that does not answer in time."""
        return self._ask_all(self._metrics)

    def usage(self) -> tuple[UsageReading | None, ...]:
        """Return what each worker has counted of each model, by number; None for one that does not answer in time."""
        return self._ask_all(self._usage)

    def _ask_all(self, ask: Callable[[str], T]) -> tuple[T, ...]:
        """Ask the workers at the same time, so that those that hang cost one timeout together."""
        with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(self._door_urls))) as threads:
            return tuple(threads.map(ask, self._door_urls))

    def _dropped(self, door_url: str) -> int:
        try:
            response = self._http.get(f"{door_url}/burnish/catalog")
            return int(response.raise_for_status().json()["capture"]["dropped"])
        except (httpx.HTTPError, ValueError, KeyError):
            return 0

    def _metrics(self, door_url: str) -> str | None:
        try:
            response = self._http.get(f"{door_url}/metrics").raise_for_status()
        except httpx.HTTPError:
            return None
        return response.text if len(response.content) <= _MAX_METRICS_BYTES else None

    def _usage(self, door_url: str) -> UsageReading | None:
        try:
            response = self._http.get(f"{door_url}/burnish/usage").raise_for_status()
            return UsageReading.model_validate_json(response.content)
        except (httpx.HTTPError, ValueError):
            return None

    def _generation(self, worker: int, model: str) -> int | None:
        """The generation that a worker serves; -1 if it does not answer this or knows no such model, None if down."""
        try:
            response = self._http.get(f"{self._door_urls[worker]}/burnish/catalog/{model}")
            return int(response.raise_for_status().json()["generation"])
        except httpx.ConnectError:
            return None
        except (httpx.HTTPError, ValueError, KeyError):
            return -1
