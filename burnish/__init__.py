"""Burnish: the fastest version of your PyTorch model that is provably still right, in production.

What stands here is the Python client. It speaks HTTP to a running stack and imports nothing of the platform.
Each name is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burnish.async_client import AsyncClient
    from burnish.client import Client
    from burnish.errors import BurnishError, InputError, RemoteError, RemoteUnreachable
    from burnish.export import push
    from burnish.replies import Optimization, Prediction

__all__ = [
    "AsyncClient",
    "BurnishError",
    "Client",
    "InputError",
    "Optimization",
    "Prediction",
    "RemoteError",
    "RemoteUnreachable",
    "push",
]

_HOMES = {
    "AsyncClient": "burnish.async_client",
    "BurnishError": "burnish.errors",
    "Client": "burnish.client",
    "InputError": "burnish.errors",
    "Optimization": "burnish.replies",
    "Prediction": "burnish.replies",
    "RemoteError": "burnish.errors",
    "RemoteUnreachable": "burnish.errors",
    "push": "burnish.export",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'burnish' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
