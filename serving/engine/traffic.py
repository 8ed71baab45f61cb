"""Which version answers: a pure function of the split and the unit, the same in every process and at every time."""

import math
from zlib import crc32

from registry.records.release import TrafficSplit

_MASK = 2**64 - 1
_RANGE = 2.0**64
_CRC_RANGE = 2**32
_NO_VERSION = 2**32 - 1


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
    unit = crc32(unit_id.encode())
    best, least = 0, math.inf
    for version, weight in weights.items():
        if weight > 0:
            cost = -math.log(_mixed(unit ^ version << 32)) / weight
            if cost < least or (cost == least and version < best):
                best, least = version, cost
    return best


def favourite(split: TrafficSplit) -> int:
    """Return the champion of a split: the version with the greatest share; of equals the oldest."""
    return min(split.weights, key=lambda version: (-split.weights[version], version))


def sampled(request_id: str, rate: float) -> bool:
    """True for the share ``rate`` of requests, decided by the hash of their id."""
    return rate >= 1 or (rate > 0 and crc32(request_id.encode()) < rate * _CRC_RANGE)


def mirrored(request_id: str, share: float) -> bool:
    """True for a share of requests, independent of those that are sampled and of what the split chooses."""
    return share >= 1 or _mixed(crc32(request_id.encode()) ^ _NO_VERSION << 32) <= share


def _mixed(bits: int) -> float:
    """A number above 0 and at most 1 that looks random and depends on nothing but 64 bits.

    Source: the finalizer of SplitMix64; G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators",
    OOPSLA 2014.
    """
    bits = ((bits ^ bits >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ bits >> 27) * 0x94D049BB133111EB) & _MASK
    return ((bits ^ bits >> 31) + 1) / _RANGE
