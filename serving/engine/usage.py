"""Usage: how much each model answers, kept from run to run, so that what is used daily can be loaded early."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from serving.engine.live import Live, LiveModel

HALF_LIFE_SECONDS = 86400.0
"""After this time a use counts half."""

KEPT_MODELS = 10_000
_log = logging.getLogger(__name__)


class Usage:
    """One worker's account of its models, in one small file."""

    def __init__(self, file: Path) -> None:
        """Take the file, which need not exist yet."""
        self._file = file
        self._scores: dict[str, float] = {}
        self._counted: dict[str, int] = {}
        self._scored_at = time.time()
        self._turn = threading.Lock()
        """A worker that stops counts for the last time while an earlier count may still be written."""

    def read(self) -> None:
        """Read what earlier runs have kept; a file that cannot be read is begun anew."""
        if not self._file.is_file():
            return
        try:
            kept = json.loads(self._file.read_bytes())
            self._scores = {str(model): float(score) for model, score in kept["models"].items()}
            self._scored_at = float(kept["at"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("the models used so far are not known, %s cannot be read: %s", self._file, error)

    def ranking(self) -> list[str]:
        """Return the models that were used, most used first."""
        return sorted(self._scores, key=self._scores.__getitem__, reverse=True)

    async def keep(self, live: Live) -> None:
        """Count what was answered since the last time, and write the file."""
        await asyncio.to_thread(self._keep, list(live.models.items()))

    def _keep(self, models: Iterable[tuple[str, LiveModel]]) -> None:
        with self._turn:
            self._count(models)
            self._write()

    def _count(self, models: Iterable[tuple[str, LiveModel]]) -> None:
        now = time.time()
        faded = 0.5 ** (max(0.0, now - self._scored_at) / HALF_LIFE_SECONDS)
        scores = {model: score * faded for model, score in self._scores.items()}
        for model, live in models:
            count = sum(slot.statistics.inferences for slot in live.slots.values())
            new = count - self._counted.get(model, 0)
            if new:
                self._counted[model] = count
                scores[model] = scores.get(model, 0.0) + max(0, new)
        most = sorted(scores.items(), key=lambda item: item[1], reverse=True)[:KEPT_MODELS]
        self._scores, self._scored_at = dict(most), now

    def _write(self) -> None:
        kept = {"at": self._scored_at, "models": {model: round(score, 3) for model, score in self._scores.items()}}
        temporary = self._file.with_suffix(".tmp")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(kept), encoding="utf-8")
            temporary.replace(self._file)
        except OSError as error:
            _log.warning("the models used cannot be kept in %s: %s", self._file, error)
