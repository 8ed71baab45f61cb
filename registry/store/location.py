"""Where the artifact store is, as a value that other processes can open it from."""

from pathlib import Path

from registry.records.base import Record
from registry.store.artifacts_local import LocalArtifacts
from registry.store.artifacts_s3 import S3Artifacts
from registry.store.base import ArtifactStore


class ArtifactLocation(Record):
    """A local folder, or a bucket with a local folder as its cache."""

    folder: Path
    url: str = ""
    s3_endpoint_url: str = ""

    def open(self) -> ArtifactStore:
        """Return the store at this location.

        Raises:
            InputError: the URL is not one of a bucket.
        """
        if self.url:
            return S3Artifacts.connect(self.url, self.s3_endpoint_url, self.folder)
        return LocalArtifacts(self.folder)
