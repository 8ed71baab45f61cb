"""The calls that are timed: lists, searches and promotions, by three clients at the same time."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import httpx

from flows.settings import StackSettings

PAGE = 100
_TIMEOUT_S = 60.0
_SEED = 7
_TOLD_EVERY = 100


@dataclass(frozen=True)
class Timings:
    """How long the calls of one kind took."""

    seconds: tuple[float, ...]

    def figures(self) -> dict[str, float]:
        """Return the figures that are written."""
        cuts = quantiles(self.seconds, n=100, method="inclusive")
        return {
            "calls": len(self.seconds),
            "p50_ms": 1000 * cuts[49],
            "p99_ms": 1000 * cuts[98],
            "max_ms": 1000 * max(self.seconds),
        }


def measure(
    settings: StackSettings,
    models: dict[str, list[str]],
    keys: dict[str, str],
    calls: int,
    say: Callable[[str], None],
) -> dict[str, Timings]:
    """Time so many calls of each kind; every answer is checked.

    Args:
        settings: where the control API is.
        models: by tenant, as the tenant calls them.
        keys: a key of each tenant.
        calls: how many of each kind.
        say: is told how far they are.

    Raises:
        RuntimeError: an answer was not what it should be.
    """
    kinds = {"list": _List(models, keys), "search": _Search(models, keys), "promote": _Promote(models, keys)}
    with ThreadPoolExecutor(len(kinds)) as threads:
        running = {name: threads.submit(_time, settings, name, kind, calls, say) for name, kind in kinds.items()}
        return {name: future.result() for name, future in running.items()}


def _time(
    settings: StackSettings,
    name: str,
    call: Callable[[httpx.Client, random.Random], None],
    calls: int,
    say: Callable[[str], None],
) -> Timings:
    chance, seconds = random.Random(_SEED), []
    with httpx.Client(base_url=settings.control_url, timeout=_TIMEOUT_S, trust_env=False) as http:
        for done in range(1, calls + 1):
            started = time.perf_counter()
            call(http, chance)
            seconds.append(time.perf_counter() - started)
            if done % _TOLD_EVERY == 0:
                say(f"{name}: {done} of {calls}")
    return Timings(tuple(seconds))


class _Calls:
    """Calls of one kind, for any tenant in turn."""

    def __init__(self, models: dict[str, list[str]], keys: dict[str, str]) -> None:
        self._models = models
        self._keys = keys

    def __call__(self, http: httpx.Client, chance: random.Random) -> None:
        tenant = chance.choice(list(self._models))
        self.ask(http, chance, {"Authorization": f"Bearer {self._keys[tenant]}"}, sorted(self._models[tenant]))

    def ask(self, http: httpx.Client, chance: random.Random, key: dict[str, str], own: list[str]) -> None:
        raise NotImplementedError


class _List(_Calls):
    """The first page of a tenant's models."""

    def ask(self, http: httpx.Client, chance: random.Random, key: dict[str, str], own: list[str]) -> None:
        limit = min(PAGE, len(own) // 2)
        page = _checked(http.get("/v1/models", params={"limit": limit}, headers=key))
        if [model["name"] for model in page["models"]] != own[:limit] or page["next"] is None:
            raise RuntimeError("the list is not the tenant's own models by name")


class _Search(_Calls):
    """A search by a part of the name."""

    def ask(self, http: httpx.Client, chance: random.Random, key: dict[str, str], own: list[str]) -> None:
        part = chance.choice(own).split("-")[1][-2:]
        page = _checked(http.get("/v1/models", params={"contains": part, "limit": PAGE}, headers=key))
        if [model["name"] for model in page["models"]] != [name for name in own if part in name][:PAGE]:
            raise RuntimeError(f"the search for {part} found other models")


class _Promote(_Calls):
    """A promotion of the version that is not live, until the engine's worker serves it."""

    def __init__(self, models: dict[str, list[str]], keys: dict[str, str]) -> None:
        super().__init__(models, keys)
        self._live: dict[tuple[str, str], int] = {}

    def ask(self, http: httpx.Client, chance: random.Random, key: dict[str, str], own: list[str]) -> None:
        model, tenant = chance.choice(own), key["Authorization"]
        version = 3 - self._live.get((tenant, model), 1)
        answer = _checked(http.post(f"/v1/models/{model}/promote", json={"version": version}, headers=key))
        self._live[tenant, model] = version
        if answer["route"]["champion"] != version or answer["acknowledged"] != [0]:
            raise RuntimeError(f"{model} was not promoted at the worker: {answer}")


def _checked(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise RuntimeError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    found: dict[str, Any] = answer.json()
    return found
