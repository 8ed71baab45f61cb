"""Free ports, of a range from which no connection is given its own: one might take a port before its server listens."""

import socket
from collections.abc import Sequence, Set
from random import SystemRandom

PORTS = range(10_240, 32_768)
"""Above what services use by default, below what Linux gives to connections. Source: ip(7), ip_local_port_range."""
_TRIES = 1000


def free_ports(spans: Sequence[Sequence[int]], among: range = PORTS, but: Set[int] = frozenset()) -> list[int]:
    """Return a free port for each span of distances; the ports at these distances from it are free as well.

    Args:
        spans: distances from each port.
        among: where to look.
        but: ports that are not to be taken, free or not.

    Raises:
        OSError: none is found.
    """
    chance = SystemRandom()  # processes that look at the same time find others
    found: list[int] = []
    taken = set(but)
    for span in spans:
        for _ in range(_TRIES):
            port = chance.choice(among[: len(among) - max(span)])
            wanted = {port + distance for distance in span}
            if not wanted & taken and all(map(_can_be_bound, wanted)):
                found.append(port)
                taken |= wanted
                break
        else:
            raise OSError("no free ports were found")
    return found


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
