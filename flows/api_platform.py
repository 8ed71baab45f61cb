"""What the control API works with: built once, handed to every handler."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from flows.api_prefect import Deployments
from flows.api_reconciler import Reconciler
from flows.settings import StackSettings
from flows.tenants import KeyRing
from flows.workers import Workers
from registry.errors import ModelNotFound
from registry.ledger.ledger import Ledger
from registry.store.base import ArtifactStore, ModelStore


@dataclass(frozen=True)
class Platform:
    """The stores, the processes around the API, and the settings."""

    settings: StackSettings
    artifacts: ArtifactStore
    ledger: Ledger
    store: ModelStore
    deployments: Deployments
    workers: Workers
    reconciler: Reconciler
    key_ring: KeyRing

    def require_model(self, model: str) -> None:
        """Check that a model is in the ledger.

        Raises:
            ModelNotFound: it is not.
        """
        if self.ledger.listings.model(model) is None:
            raise ModelNotFound(f"there is no model {model!r}; `burnish models` lists those there are")


async def _platform(request: Request) -> Platform:
    platform = request.app.state.platform
    if not isinstance(platform, Platform):
        raise TypeError("the application was built without a platform")
    return platform


Stack = Annotated[Platform, Depends(_platform)]
"""The platform, as a handler's parameter."""
