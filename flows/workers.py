"""Asks the engine's workers which generation of a model they serve."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

_PAUSE_S = 0.05


@dataclass(frozen=True)
class Acknowledgement:
    """Workers, by number, that serve a generation or a later one, and those that do not yet."""

    acknowledged: tuple[int, ...]
    pending: tuple[int, ...]


class Workers:
    """The engine's workers by the addresses of their REST doors."""

    def __init__(self, http: httpx.Client, door_urls: Sequence[str], *, wait_s: float) -> None:
        """Keep the addresses; ``wait_s`` bounds how long a release waits for all of them."""
        self._http = http
        self._door_urls = tuple(door_urls)
        self._wait_s = wait_s

    def await_generation(self, model: str, generation: int) -> Acknowledgement:
        """Wait, within the bound, until every worker serves this generation of a model."""
        deadline = time.monotonic() + self._wait_s
        acknowledged: set[int] = set()
        while True:
            for worker in range(len(self._door_urls)):
                if worker not in acknowledged and self._generation(worker, model) >= generation:
                    acknowledged.add(worker)
            pending = tuple(worker for worker in range(len(self._door_urls)) if worker not in acknowledged)
            if not pending or time.monotonic() >= deadline:
                return Acknowledgement(tuple(sorted(acknowledged)), pending)
            time.sleep(_PAUSE_S)

    def _generation(self, worker: int, model: str) -> int:
        """The generation that a worker serves; -1 if it does not answer or does not know the model."""
        try:
            response = self._http.get(f"{self._door_urls[worker]}/burnish/catalog")
            return int(response.raise_for_status().json()["models"][model]["generation"])
        except (httpx.HTTPError, ValueError, KeyError):
            return -1
