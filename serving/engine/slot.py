"""A slot: one version of one model in this worker, loaded or not."""

import asyncio
import sys
from dataclasses import dataclass, field
from functools import lru_cache

from registry.errors import InputError
from registry.records.model import ServedVersion, Signature
from registry.records.release import NonFinite, ServingPolicy
from registry.records.tenant import split_name
from serving.engine.batcher import Batcher
from serving.engine.budget import Cost
from serving.engine.comparison import Comparison
from serving.engine.lineage import Lineage
from serving.engine.response_cache import ResponseCache
from serving.engine.statistics import Statistics
from serving.engine.tensors import SignaturePlan


@dataclass(eq=False, slots=True)
class Slot:
    """One version of one model: loaded or not, and how many requests hold it."""

    model: str
    served: ServedVersion
    policy: ServingPolicy = field(default_factory=ServingPolicy)
    """Of its model; replaced with the model's entry."""
    shadow: "ShadowTarget | None" = None
    """What computes its answered requests again; replaced with the model's entry."""
    cache: ResponseCache | None = None
    """Of its model, where the policy asks for one; replaced with the model's entry."""
    batcher: Batcher | None = None
    holders: int = 0
    retired: bool = False
    loading: asyncio.Task[Batcher] | None = None
    cost: Cost | None = None
    """What it held when it was last loaded."""
    failure: str | None = None
    retry_at: float = 0.0
    plan: SignaturePlan = field(init=False, repr=False)
    tenant: str = field(init=False, repr=False)
    name: str = field(init=False, repr=False)
    """Of its model, as its tenant gives it."""
    lineage: Lineage = field(init=False, repr=False)
    own_lineage: Lineage = field(init=False, repr=False)
    """With the name that its tenant gives it."""
    statistics: Statistics = field(default_factory=Statistics, repr=False)
    _digest: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        """Work out once what every request asks of the signature, and what every answer says of the version."""
        self.plan = _plan(self.served.signature)
        tenant, self.name = split_name(self.model)
        self.tenant = sys.intern(tenant)
        self.lineage = Lineage.of(self.model, self.served)
        self.own_lineage = self.lineage if self.name == self.model else Lineage.of(self.name, self.served)

    @property
    def digest(self) -> str:
        """The digest of what is served, worked out when it is first asked: of thousands, most are never loaded."""
        self._digest = self._digest or self.served.digest
        return self._digest

    @property
    def finite_only(self) -> bool:
        """NaN and infinities in inputs are refused."""
        return self.policy.non_finite is NonFinite.REFUSE

    def lineage_for(self, tenant: str | None) -> Lineage:
        """Return what answers say of the version to a tenant, or without one to the operator."""
        return self.lineage if tenant is None else self.own_lineage

    def __str__(self) -> str:
        """The version as messages name it, which its tenant reads."""
        return f"{self.name} version {self.served.version}"


@dataclass(frozen=True, eq=False)
class ShadowTarget:
    """A version that computes a share of another one's requests again, and what came of it."""

    slot: Slot
    share: float
    comparison: Comparison

    def check(self, primary: Slot) -> None:
        """Check that what the primary takes can be given to the shadow.

        Raises:
            InputError: the two take different inputs.
        """
        if self.slot.served.signature.inputs != primary.served.signature.inputs:
            raise InputError(f"{self.slot} takes other inputs than {primary}, so it cannot be its shadow")


@lru_cache(maxsize=1024)
def _plan(signature: Signature) -> SignaturePlan:
    """Thousands of models often have one signature."""
    return SignaturePlan.of(signature)
