"""Lineage: from a request, or from an artifact, to all that made the answer and to who let it serve."""

from datetime import UTC, datetime

from monitoring.request_search import MAX_FILES, CapturedRequest, Search
from registry.errors import InputError, RegistryError, TransientError
from registry.ledger.ledger import Ledger
from registry.records.base import Digest, Record, VersionNumber
from registry.records.model import ModelVersion, ServedVersion
from registry.records.release import Feedback, ReleaseAction, ReleaseEvent
from registry.records.tenant import QualifiedName, split_name
from registry.store.base import ModelStore
from serving.engine.traffic import sampled

_MS_PER_S = 1000
_RELEASES = frozenset({ReleaseAction.PROMOTE, ReleaseAction.ROLLBACK})


class AnsweredRequest(Record):
    """A captured request: which version answered it, and when."""

    request_id: str
    model: QualifiedName
    version: VersionNumber
    artifact: Digest
    at: datetime
    samples: int
    file: str


class VersionLineage(Record):
    """One version: what serves, what it was made from and judged by, and every change of the route that it was in."""

    model: QualifiedName
    served: ServedVersion
    registered: ModelVersion | None
    """Recipe, source, sets, gate, report; None: the registry mirror could not be asked."""
    registry_unavailable: str | None
    share: float
    """Percent of the model's traffic now."""
    releases: tuple[ReleaseEvent, ...]
    """In which it became champion or ceased to be, oldest first."""


class Explanation(Record):
    """What answered a request, or what an artifact is; several versions may be of the same bytes."""

    request: AnsweredRequest | None
    in_force: ReleaseEvent | None
    """The last change of the model's route before the request was answered."""
    feedback: Feedback | None
    versions: tuple[VersionLineage, ...]


def explain_request(ledger: Ledger, store: ModelStore, request_id: str, found: CapturedRequest) -> Explanation:
    """Walk from a captured request to what made its answer.

    Raises:
        RegistryError: the ledger holds other bytes for the version that answered.
        TransientError: the ledger cannot be reached.
    """
    at = datetime.fromtimestamp(found.timestamp_ms / _MS_PER_S, UTC)
    before = [event for event in ledger.history(found.model) if event.at <= at]
    return Explanation(
        request=AnsweredRequest(
            request_id=request_id,
            model=found.model,
            version=found.version,
            artifact=found.artifact,
            at=at,
            samples=found.samples,
            file=str(found.file),
        ),
        in_force=before[-1] if before else None,
        feedback=ledger.feedback_on(found.model, request_id),
        versions=(_lineage(ledger, store, found.model, _served(ledger, found)),),
    )


def explain_artifact(ledger: Ledger, store: ModelStore, tenant: str, sha256: str) -> Explanation:
    """Walk from an artifact's digest, or its first digits, to every version of a tenant that is made of it.

    Raises:
        InputError: no version is.
        TransientError: the ledger cannot be reached.
    """
    found = [(model, served) for model, served in ledger.made_of(sha256) if split_name(model)[0] == tenant]
    if not found:
        raise InputError(f"no version has an artifact whose sha256 begins with {sha256}; `burnish versions` shows them")
    lineages = tuple(_lineage(ledger, store, model, served) for model, served in found)
    return Explanation(request=None, in_force=None, feedback=None, versions=lineages)


def why_not_captured(request_id: str, search: Search, rate: float, dropped: int) -> str:
    """Say why a request may not be among the captured ones.

    Args:
        request_id: its id, which decides whether it is sampled.
        search: how far it was looked for.
        rate: the share that is sampled.
        dropped: sampled requests that the workers running now did not keep.
    """
    if not sampled(request_id, rate):
        why = f"{100 * rate:g} % of the requests are sampled (BURNISH_CAPTURE_RATE), and this id is not among them"
    else:
        why = (
            "its id is among those that are sampled, so no request with this id was answered, or it was dropped under "
            f"pressure ({dropped} were since the workers started), or it is not written yet (wait a second), or it is "
            "older than captured requests are kept"
        )
    if not search.complete:
        why += f"; of {search.files} files of captured requests the newest {MAX_FILES} were looked into"
    return (
        f"the request {request_id} was not captured: {why}. Its answer named what made it in its headers: "
        "`burnish explain --artifact`, followed by x-burnish-artifact, walks from there"
    )


def _served(ledger: Ledger, found: CapturedRequest) -> ServedVersion:
    served = next((one for one in ledger.served(found.model) if one.version == found.version), None)
    if served is None or served.artifact.sha256 != found.artifact:
        known = f"has the artifact {served.artifact.sha256} in the ledger" if served else "is not in the ledger"
        raise RegistryError(
            f"the request was answered by {found.model} version {found.version}, artifact {found.artifact}; "
            f"that version {known}"
        )
    return served


def _lineage(ledger: Ledger, store: ModelStore, model: str, served: ServedVersion) -> VersionLineage:
    registered = unavailable = None
    try:
        registered = store.version(model, served.version)
    except (TransientError, RegistryError) as error:
        unavailable = f"the registry mirror does not tell, so this is what the ledger holds: {error}"
    route = ledger.route(model)
    return VersionLineage(
        model=model,
        served=served,
        registered=registered,
        registry_unavailable=unavailable,
        share=route.split.weights.get(served.version, 0.0) if route else 0.0,
        releases=tuple(
            event
            for event in ledger.history(model)
            if event.action in _RELEASES and served.version in (event.champion, event.previous)
        ),
    )
