"""What a registered version's model directory holds instead of bytes: where they are, and how to run them."""

from registry.records.base import Record
from registry.records.model import ArtifactRef, PluginConfig, Signature
from registry.store.location import ArtifactLocation

POINTER_FILE = "pointer.json"


class Pointer(Record):
    """A version's artifact by digest, with the store that has it, its runtime and its signature."""

    location: ArtifactLocation
    artifact: ArtifactRef
    runtime: PluginConfig
    signature: Signature
