"""Asks parts how they are."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx

from burnish.stack.plan import Part, Probe

_TIMEOUT_S = 3.0


class Health:
    """Asks over one set of connections; closed by leaving the ``with`` block."""

    def __init__(self) -> None:
        """Open nothing yet."""
        # A proxy of the environment cannot reach this machine's loopback.
        self._http = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> "Health":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def ready(self, parts: Sequence[Part], started: dict[str, float]) -> dict[str, bool]:
        """Ask all parts at the same time; a part that was never started is not ready.

        Args:
            parts: the parts to ask.
            started: Unix time of each part's start, by name.
        """
        running = [part for part in parts if part.name in started]
        with ThreadPoolExecutor(max_workers=max(1, len(running))) as pool:
            answers = list(pool.map(lambda part: self._ready(part, started[part.name]), running))
        found = dict(zip([part.name for part in running], answers, strict=True))
        return {part.name: found.get(part.name, False) for part in parts}

    def json(self, url: str) -> Any:  # noqa: ANN401
        """Return the JSON that a URL answers, or None if it does not."""
        try:
            answer = self._http.get(url)
            return answer.json() if answer.is_success else None
        except (httpx.HTTPError, ValueError):
            return None

    def _ready(self, part: Part, started: float) -> bool:
        return all(self._holds(probe, started) for probe in part.probes)

    def _holds(self, probe: Probe, started: float) -> bool:
        if probe.newer_than_start is not None:
            answer = self.json(probe.url)
            time = answer.get(probe.newer_than_start) if isinstance(answer, dict) else None
            return isinstance(time, str) and datetime.fromisoformat(time).timestamp() > started
        try:
            return self._http.get(probe.url).is_success
        except httpx.HTTPError:
            return False
