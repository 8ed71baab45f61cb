"""The base of all records and the constrained types that they share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from registry.digest import json_digest

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A sha256 as 64 lowercase hex digits."""

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""A model's name: lowercase letters, digits, '-' and '_', at most 63 characters."""

VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""A model version: 1, 2, 3 and so on, given by the registry."""

NO_NUL = r"^[^\x00]*$"
"""Pattern of text that databases can keep."""


class Record(BaseModel):
    """A value: frozen, closed to unknown fields, equal by content, with a digest of its canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def digest(self) -> str:
        """sha256 of the record's canonical JSON, 64 hex digits."""
        return json_digest(self.model_dump(mode="json"))
