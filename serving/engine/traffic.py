"""Which version answers: a pure function of the split and the unit, the same in every process and at every time."""

import math
from hashlib import blake2b

from registry.records.release import TrafficSplit

_HASH_BYTES = 8
_HASH_RANGE = 2.0 ** (8 * _HASH_BYTES)


def choose(split: TrafficSplit, unit_id: str) -> int:
    """Return the version that answers a unit (a user, a session, a request).

    Weighted rendezvous hashing: each version draws its own hash of the unit, scaled by its weight, and the best
    draw wins. So a unit stays with its version while the split stays, and when the weight of one version grows
    at the cost of the others in proportion (with two versions: always), units move to that version only.

    Source: C. Schindelhauer, G. Schomaker, "Weighted Distributed Hash Tables", SPAA 2005.
    """
    weights = split.weights
    if len(weights) == 1:
        return next(iter(weights))
    live = (version for version in weights if weights[version] > 0)
    return min(live, key=lambda version: _cost(split, version, unit_id))


def favourite(split: TrafficSplit) -> int:
    """Return the champion of a split: the version with the greatest share; of equals the oldest."""
    return min(split.weights, key=lambda version: (-split.weights[version], version))


def sampled(request_id: str, rate: float) -> bool:
    """True for the share ``rate`` of requests, decided by the hash of their id."""
    return rate >= 1 or (rate > 0 and _uniform(request_id) < rate)


def _cost(split: TrafficSplit, version: int, unit_id: str) -> tuple[float, int]:
    return -math.log(_uniform(f"{version}:{unit_id}")) / split.weights[version], version


def _uniform(text: str) -> float:
    """A number above 0 and at most 1 that depends on nothing but the text."""
    return (int.from_bytes(blake2b(text.encode(), digest_size=_HASH_BYTES).digest(), "big") + 1) / _HASH_RANGE
