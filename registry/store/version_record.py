"""A version draft as the names and texts that a model store keeps: tags, parameters, figures."""

import json

from registry.digest import canonical_json
from registry.records.model import VersionDraft

MANAGED = "burnish.managed"
DRAFT = "burnish.draft"
DRAFT_DIGEST = "burnish.draft_digest"
OPTIMIZATION = "burnish.optimization_id"
ATTACHMENT = "burnish.attachment"

# MLflow refuses tag values above 100,000 characters, and its MySQL column ends at 65,535 bytes.
MAX_TAG_BYTES = 60_000


def version_tags(draft: VersionDraft) -> dict[str, str]:
    """Return the tags of a version; the whole draft is among them if it fits."""
    tags = {
        DRAFT_DIGEST: draft.digest,
        OPTIMIZATION: draft.optimization_id,
        "burnish.source": draft.source.sha256,
        "burnish.artifact": draft.artifact.sha256,
        "burnish.evaluation_set": draft.evaluation_set,
        "burnish.report": draft.report,
        "burnish.runtime": draft.runtime.label,
        "burnish.gate": "; ".join(f"{outcome.rule}: {outcome.verdict}" for outcome in draft.gate.outcomes),
        "burnish.parent_version": str(draft.parent_version or "none"),
    }
    record = draft.model_dump_json()
    if len(record.encode()) <= MAX_TAG_BYTES:
        tags[DRAFT] = record
    return tags


def run_figures(draft: VersionDraft) -> dict[str, float]:
    """Return each metric's estimate under its name, with ``_low`` and ``_high`` for its interval."""
    figures: dict[str, float] = {}
    for metric in draft.metrics:
        figures[metric.name] = metric.interval.estimate
        figures[f"{metric.name}_low"] = metric.interval.low
        figures[f"{metric.name}_high"] = metric.interval.high
    return figures


def run_parameters(draft: VersionDraft) -> dict[str, str]:
    """Return what the version was made with: recipe, runtime and tool versions, the exact form as JSON."""
    return {
        "recipe": " > ".join(step.label for step in draft.recipe) or "none",
        "recipe_json": canonical_json([step.model_dump(mode="json") for step in draft.recipe]).decode(),
        "runtime": draft.runtime.label,
        "runtime_json": canonical_json(draft.runtime.model_dump(mode="json")).decode(),
        "tool_versions": json.dumps(draft.tool_versions, sort_keys=True),
    }
