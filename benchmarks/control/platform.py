"""A platform with thousands of models: ledger and catalog filled, the control API as a process."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import sqlalchemy as sa

from benchmarks.density.nets import publish, small_nets
from benchmarks.settings import of_stack
from flows import wiring
from flows.settings import StackSettings, keep_settings
from registry.ledger.ledger import Ledger
from registry.ledger.tables import RELEASE_EVENTS, ROUTES, SERVED_VERSIONS
from registry.records.model import ServedVersion
from registry.records.release import CatalogEntry, TrafficSplit
from registry.records.tenant import Quotas, Scope, qualified
from serving.engine.catalog import read_entry, write_entry

VERSIONS = (1, 2)

_WRITERS = 16
_READY_S = 120.0
_STOP_S = 30.0
_KINDS = ("churn", "fraud", "ranking", "vision", "speech")


def names(tenants: int, models: int) -> dict[str, list[str]]:
    """Name so many models, shared out evenly, by tenant and as the tenant calls them."""
    each = models // tenants
    return {
        f"team-{tenant:02d}": [f"{_KINDS[number % len(_KINDS)]}-{number:05d}" for number in range(each)]
        for tenant in range(tenants)
    }


def fill(settings: StackSettings, models: dict[str, list[str]]) -> dict[str, str]:
    """Register two versions of every model and promote the first, in ledger and catalog; all share one small net.

    Returns:
        A key of each tenant.
    """
    served = _versions(settings.home)
    every = [qualified(tenant, model) for tenant, own in models.items() for model in own]
    ledger = Ledger(settings.ledger_database)
    ledger.migrate()
    keys = {tenant: _key(settings, ledger, tenant) for tenant in models}
    ledger.close()
    _write_rows(settings.ledger_database, every, served)
    split = TrafficSplit(weights={VERSIONS[0]: 100})
    entries = (CatalogEntry(model=name, generation=1, split=split, versions=served) for name in every)
    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(lambda entry: write_entry(settings.catalog_folder, entry), entries))
    return keys


def _key(settings: StackSettings, ledger: Ledger, tenant: str) -> str:
    ledger.tenants.add(tenant, Quotas())
    made = wiring.key_ring(settings, ledger).make(tenant, [Scope.DEPLOY], "benchmark")
    return made.text.get_secret_value()


def _versions(home: Path) -> tuple[ServedVersion, ...]:
    """Two versions of one net, which is stored with its catalog entry and taken out of the catalog again."""
    publish([*small_nets(1)], home)
    (file,) = (home / "catalog").glob("*.json")
    (first,) = read_entry(file).versions
    file.unlink()
    return tuple(first.model_copy(update={"version": number}) for number in VERSIONS)


def _write_rows(url: str, every: list[str], served: tuple[ServedVersion, ...]) -> None:
    now = sa.func.now()
    split = {"weights": {str(VERSIONS[0]): 100.0}}
    records = {one.version: one.model_dump_json() for one in served}
    engine = sa.create_engine(url)
    admitted = [{"model": name, "version": number, "record": records[number]} for name in every for number in VERSIONS]
    live = [{"model": name} for name in every]
    with engine.begin() as connection:
        connection.execute(sa.insert(SERVED_VERSIONS).values(admitted_at=now), admitted)
        connection.execute(
            sa.insert(ROUTES).values(generation=1, champion=VERSIONS[0], split=split, policy={}, updated_at=now), live
        )
        said = {"actor": "benchmark", "reason": "", "action": "promote", "split": split, "policy": {}, "at": now}
        connection.execute(sa.insert(RELEASE_EVENTS).values(generation=1, champion=VERSIONS[0], **said), live)
    engine.dispose()


@contextmanager
def running(settings: StackSettings) -> Iterator[None]:
    """Run the control API, and stop it."""
    keep_settings(settings)
    command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "flows.api:create_app", "--log-level", "warning"]
    port = ["--host", settings.host, "--port", str(settings.control_port)]
    with (settings.home / "control.log").open("wb") as log:
        process = subprocess.Popen([*command, *port], env=of_stack(settings.home), stdout=log, stderr=log)
    try:
        _await(process, f"{settings.control_url}/v1/health", settings.home / "control.log")
        yield
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(family, timeout=_STOP_S)
        for each in left:
            each.kill()
        process.wait(_STOP_S)


def _await(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the control API is not ready; see {log}")
