"""Explain: what answered a request, and what that was made from."""

from typing import Annotated

from fastapi import APIRouter, Query

from flows import lineage
from flows.api_auth import Who
from flows.api_names import ShortNamesRoute
from flows.api_own import AskedModel
from flows.api_platform import Stack
from flows.lineage import Explanation
from monitoring.request_search import find_request
from registry.errors import InputError

router = APIRouter(tags=["lineage"], route_class=ShortNamesRoute)

RequestId = Annotated[str, Query(pattern=r"^[\x21-\x7e]{1,128}$", description="As the answer's x-request-id has it.")]
ArtifactDigest = Annotated[
    str, Query(pattern=r"^[0-9a-f]{8,64}$", description="An artifact's sha256, or its first digits.")
]


@router.get("/explain")
def explain(
    platform: Stack,
    who: Who,
    model: AskedModel,
    request_id: RequestId | None = None,
    artifact: ArtifactDigest | None = None,
) -> Explanation:
    """Walk from a captured request, or from an artifact, to version, recipe, gate, evaluation set and releases."""
    if (request_id is None) == (artifact is None):
        raise InputError("give one of the two, request_id or artifact")
    if artifact is not None:
        return lineage.explain_artifact(platform.ledger, platform.store, who.tenant, artifact)
    asked, settings = request_id or "", platform.settings
    search = find_request(settings.capture_folder, asked, model, tenant=who.tenant)
    if search.found is None:
        dropped = platform.workers.dropped_captures()
        raise InputError(lineage.why_not_captured(asked, search, settings.capture_rate, dropped))
    return lineage.explain_request(platform.ledger, platform.store, asked, search.found)
