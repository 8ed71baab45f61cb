"""A bound that tenants share: whoever floods fills its part, and who holds nothing yet still finds room.

A tenant may hold at most three times what is free. So one alone fills three quarters, two that flood three sevenths
each, and however many flood, something stays free for the next. Nothing is set aside, and no part is to be set.

Source: A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
Transactions on Networking 6(2), 1998.
"""

from serving.engine.fair_turns import Tenant

TIMES_FREE = 3


class SharedBound:
    """What each tenant holds of one amount."""

    def __init__(self, bound: int) -> None:
        """Take the amount."""
        self.total = 0
        self._bound = bound
        self._held: dict[Tenant, int] = {}

    def fits(self, tenant: Tenant, amount: int) -> bool:
        """True if a tenant may hold so much more; one that holds nothing may hold anything while anything is free."""
        held = self._held.get(tenant, 0)
        free = self._bound - self.total
        return free > 0 if not held else amount <= free and held + amount <= TIMES_FREE * free

    @property
    def full(self) -> bool:
        """True if nothing is free."""
        return self.total >= self._bound

    def alone(self, tenant: Tenant) -> bool:
        """True if no other tenant holds anything."""
        return self._held.get(tenant, 0) == self.total

    def take(self, tenant: Tenant, amount: int) -> None:
        """Count what a tenant holds from now on."""
        self.total += amount
        self._held[tenant] = self._held.get(tenant, 0) + amount

    def give_back(self, tenant: Tenant, amount: int) -> None:
        """Count what a tenant holds no more."""
        self.total -= amount
        left = self._held[tenant] - amount
        if left:
            self._held[tenant] = left
        else:
            del self._held[tenant]
