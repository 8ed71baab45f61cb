"""What one connection keeps of bodies, being read or read ahead, in an account that all of a worker's share."""

from collections.abc import Iterable

from serving.doors.http_rules import tenant_of
from serving.engine.fair_turns import Tenant
from serving.engine.shared_bound import SharedBound


class KeptBodies:
    """The bytes of one connection; they count as its tenant's."""

    __slots__ = ("_bound", "_tenant", "size")

    def __init__(self, bound: SharedBound) -> None:
        """Take the account."""
        self.size = 0
        self._bound = bound
        self._tenant: Tenant = None

    def count(self, sizes: Iterable[int], head: list[tuple[bytes, bytes]]) -> int | None:
        """Count what is kept now; return the status of the refusal if there is no room for more of it, else None."""
        size = sum(sizes)
        more = size - self.size
        if more > 0:
            if not self.size:
                self._tenant = tenant_of(head)
            if not self._bound.fits(self._tenant, more):
                return 503 if self._bound.full or self._bound.alone(self._tenant) else 429
            self._bound.take(self._tenant, more)
        elif more < 0:
            self._bound.give_back(self._tenant, -more)
        self.size = size
        return None
