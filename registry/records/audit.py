"""The audit: who did what to what, when, from where, with which outcome and evidence; a chain of hashes."""

from datetime import UTC, datetime

from pydantic import Field, JsonValue

from registry.digest import json_digest
from registry.records.base import Digest, Record
from registry.records.tenant import TenantName

GENESIS = "0" * 64
"""What the first entry names as the hash of the one before it."""


class AuditDraft(Record):
    """What is told of one call, before the chain has given it a place."""

    tenant: TenantName | None = Field(description="Whose call it was; None: of somebody without a valid key.")
    actor: str = Field(description="The key's id, `operator` where no key was needed, or a user of the command line.")
    source: str = Field(description="The address that the call came from.")
    action: str = Field(description="The name of the operation, such as `promote`.")
    target: str = Field(description="What it was done to: a path of the control API.")
    outcome: str = Field(description="`done`, or the status of the refusal, such as `403`.")
    evidence: dict[str, JsonValue] = Field(default_factory=dict, description="Digests, generation, gate.")


class AuditEntry(AuditDraft):
    """One entry of the chain."""

    sequence: int = Field(ge=1)
    at: datetime
    previous: Digest = Field(description="The hash of the entry before.")
    hash: Digest = Field(description="sha256 of the canonical JSON of all other fields.")

    @property
    def sealed(self) -> str:
        """The hash that the entry must have."""
        body = self.model_dump(mode="json", exclude={"hash", "at"})
        return json_digest(body | {"at": self.at.astimezone(UTC).isoformat(timespec="microseconds")})


class AuditHead(Record):
    """How many entries there are, and the hash of the last; kept apart from them, and by whoever wrote it down."""

    sequence: int = Field(ge=0)
    hash: Digest


class AuditVerdict(Record):
    """Whether the chain holds."""

    entries: int = Field(ge=0, description="Entries that hold, from the first on.")
    head: AuditHead = Field(description="Write it down: a later check can be held against it.")
    broken: str | None = Field(default=None, description="The first entry that does not hold, and why.")
