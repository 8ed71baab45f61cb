"""What every answer says of what made it: worked out once for each version, in the form of each door."""

from typing import NamedTuple

from registry.records.model import ServedVersion


class Lineage(NamedTuple):
    """Model, version and artifact, as they stand in answers."""

    model: str
    version: str
    artifact: str
    header_lines: bytes
    """HTTP headers, written out."""

    @classmethod
    def of(cls, model: str, served: ServedVersion) -> "Lineage":
        """Write down the lineage of one version's answers."""
        version, artifact = str(served.version), served.artifact.sha256
        lines = f"x-burnish-model: {model}\r\nx-burnish-version: {version}\r\nx-burnish-artifact: {artifact}\r\n"
        return cls(model, version, artifact, lines.encode())
