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
    metadata: tuple[tuple[str, str], ...]
    """The same for gRPC."""

    @classmethod
    def of(cls, model: str, served: ServedVersion) -> "Lineage":
        """Write down the lineage of one version's answers."""
        version, artifact = str(served.version), served.artifact.sha256
        named = (("x-burnish-model", model), ("x-burnish-version", version), ("x-burnish-artifact", artifact))
        lines = "".join(f"{name}: {value}\r\n" for name, value in named)
        return cls(model, version, artifact, lines.encode(), named)
