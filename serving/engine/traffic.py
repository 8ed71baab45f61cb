"""Which version answers: a pure function of the split and the unit, the same in every process and at every time."""

import math
from functools import lru_cache
from hashlib import blake2b

from registry.records.release import TrafficSplit

_HASH_BYTES = 8
_MASK = 2 ** (8 * _HASH_BYTES) - 1
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
    unit = _hash(unit_id)
    best, least = 0, math.inf
    for version, weight in weights.items():
        if weight > 0:
            cost = -math.log(_draw(unit, version)) / weight
            if cost < least or (cost == least and version < best):
                best, least = version, cost
    return best


def favourite(split: TrafficSplit) -> int:
    """Return the champion of a split: the version with the greatest share; of equals the oldest."""
    return min(split.weights, key=lambda version: (-split.weights[version], version))


def sampled(request_id: str, rate: float) -> bool:
    """True for the share ``rate`` of requests, decided by the hash of their id."""
    return rate >= 1 or (rate > 0 and _hash(request_id) < rate * _HASH_RANGE)


def _draw(unit: int, version: int) -> float:
    """A number above 0 and at most 1 from the hash of a unit, another for each version.

    Source: the finalizer of SplitMix64; G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators",
    OOPSLA 2014.
    """
    mixed = (unit ^ version * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ mixed >> 31) + 1) / _HASH_RANGE


@lru_cache(maxsize=8)  # where a request names no unit, its id is hashed to choose and again to sample
def _hash(text: str) -> int:
    """64 bits that depend on nothing but the text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=_HASH_BYTES).digest(), "big")
