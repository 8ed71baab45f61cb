"""Releases: the ledger decides, the catalog follows at once, the mirrors follow when they can."""

from pathlib import Path

from pydantic import JsonValue

from registry.file_lock import file_lock
from registry.ledger.ledger import Ledger
from registry.records.change import Change
from registry.records.release import Route
from registry.store.base import CHAMPION, ModelStore
from serving.engine.catalog import holds_entry, write_entry


def change_route(ledger: Ledger, catalog_folder: Path, change: Change) -> Route:
    """Take one step with a model's route, in the ledger and in the catalog.

    Raises:
        ModelNotFound: the model or the version is not admitted, or nothing is live to be changed.
        VersionConflict: the route's generation is not the expected one.
        InputError: the step makes no sense on this route.
        TransientError: the ledger cannot be reached.
    """
    route = ledger.change_route(change)
    publish(ledger, catalog_folder, change.model)
    return route


def evidence_of(ledger: Ledger, route: Route) -> dict[str, JsonValue]:
    """Return what the audit tells of a route that was changed: what is in force now, and the bytes behind it."""
    live = {served.version: served.artifact.sha256 for served in ledger.served(route.model)}
    return {
        "generation": route.generation,
        "champion": route.champion,
        "artifacts": {str(version): live[version] for version in route.split.weights},
    }


def publish(ledger: Ledger, catalog_folder: Path, model: str) -> bool:
    """Write a model's catalog file from the ledger; False if it already said the same.

    The ledger is read under a lock that every publisher of this folder takes, so a file never goes back to an
    older generation.

    Raises:
        TransientError: the ledger cannot be reached, or another publisher holds the lock for too long.
    """
    with file_lock(catalog_folder.with_name(f"{catalog_folder.name}.lock")):
        (entry,) = ledger.listings.entries((model,))
        if holds_entry(catalog_folder, entry):
            return False
        write_entry(catalog_folder, entry)
        return True


def mirror(ledger: Ledger, store: ModelStore, model: str) -> bool:
    """Point the model store's champion alias at what is live; False if it already did, or nothing is live.

    Raises:
        ModelNotFound: the model store does not have the live version.
        TransientError: the model store or the ledger cannot be reached.
    """
    route = ledger.route(model)
    if route is None or store.alias(model, CHAMPION) == route.champion:
        return False
    store.set_alias(model, CHAMPION, route.champion)
    return True
