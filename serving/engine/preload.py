"""What is loaded before anybody asks: pinned models at start, and then, while there is time, what was used most."""

import asyncio
import logging
from collections.abc import Iterable

from registry.errors import TransientError
from serving.engine.budget import MEMORY
from serving.engine.live import Live, LiveModel
from serving.engine.residency import Residency

_log = logging.getLogger(__name__)


async def load_pinned(live: Live, residency: Residency) -> None:
    """Load what answers of every pinned model; one that cannot be loaded is reported where its status is asked."""
    for model in [model for model in live.models.values() if model.entry.policy.pinned]:
        await _load(model, residency)


async def preload(live: Live, residency: Residency, ranking: Iterable[str], share: float) -> None:
    """Load models in an order, until a share of the memory budget is filled, and rest as long as each load takes."""
    loop = asyncio.get_running_loop()
    bound = share * residency.room.budget.bounds[MEMORY]
    for name in ranking:
        if residency.resident_bytes >= bound:
            return
        model = live.models.get(name)
        if model is not None:
            started = loop.time()
            await _load(model, residency)
            await asyncio.sleep(loop.time() - started)


async def _load(model: LiveModel, residency: Residency) -> None:
    for slot in model.answering():
        try:
            await residency.hold(slot)
        except TransientError as error:
            _log.warning("not loaded before it is asked for: %s", error)
        else:
            residency.release(slot)
