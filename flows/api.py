"""The control API: ``/v1``, OpenAPI at ``/docs``. Thin: handlers call ledger, stores, releases and Prefect.

Start it with ``uvicorn --factory flows.api:create_app``. It answers to API keys; where none are required, it belongs
on loopback.
"""

import gc
import sys

import httpx
from fastapi import FastAPI

from flows import resident_quotas, wiring
from flows.api_app import build_app
from flows.api_platform import Platform
from flows.api_prefect import Deployments
from flows.api_reconciler import Reconciler
from flows.api_usage import gather
from flows.settings import StackSettings
from serving.gateway.admin import refused_updates

PREFECT_TIMEOUT_S = 20.0
SWITCH_S = 0.001
"""A handler that comes back from the disk waits so long for a thread that computes, and not Python's 5 ms: a promotion
comes back a dozen times."""


def create_app() -> FastAPI:
    """Build the application for the stack that the settings name."""
    sys.setswitchinterval(SWITCH_S)
    settings = StackSettings()
    ledger = wiring.ledger(settings)
    store = wiring.model_store(settings)
    # Prefect is a part of the stack, never behind a proxy of the environment.
    prefect = httpx.Client(base_url=settings.prefect_url, timeout=PREFECT_TIMEOUT_S, trust_env=False)
    deployments = Deployments(prefect)
    workers = wiring.workers(settings)
    key_ring = wiring.key_ring(settings, ledger)
    further = (
        key_ring.tell,
        lambda: gather(ledger, workers),
        lambda: resident_quotas.tell(ledger, settings.catalog_folder, settings.workers),
    )
    told = (lambda: refused_updates(settings.gateway_admin_port),)
    platform = Platform(
        settings=settings,
        artifacts=wiring.artifacts(settings),
        ledger=ledger,
        store=store,
        deployments=deployments,
        workers=workers,
        reconciler=Reconciler(ledger, store, deployments, settings.catalog_folder, further=further, told=told),
        key_ring=key_ring,
    )
    app = build_app(platform)
    gc.collect()
    gc.freeze()  # what is there now stays; to look at it again in each full collection stops every request for 0.15 s
    return app
