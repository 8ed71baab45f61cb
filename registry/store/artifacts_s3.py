"""Artifacts in an S3 bucket, read through a local cache; the same contract as on local disk."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import RetriesExceededError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from registry.digest import tree_manifest
from registry.errors import InputError, ModelNotFound, RegistryError, TransientError
from registry.store.artifacts_local import LocalArtifacts
from registry.store.tree import Manifest, check_digest, differences, dump_manifest, manifest_or_empty, parse_manifest

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 3},
    request_checksum_calculation="when_required",  # S3-compatible servers know no newer ones; ours is sha256
    response_checksum_validation="when_required",
)
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})


class S3Artifacts:
    """Trees as objects ``<prefix>/sha256/<digest>/<path>`` and a manifest ``<prefix>/sha256/<digest>.json``.

    The manifest is written last and removed first: a tree without one does not exist. What was read once is served
    from the cache, checked on every read, also while S3 does not answer.
    """

    def __init__(self, client: Any, bucket: str, prefix: str, cache: LocalArtifacts) -> None:  # noqa: ANN401
        """Use a boto3 S3 client; ``S3Artifacts.connect`` makes one."""
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/sha256" if prefix else "sha256"
        self._cache = cache

    @classmethod
    def connect(cls, url: str, endpoint_url: str, cache: Path) -> "S3Artifacts":
        """Make a store from ``s3://bucket/prefix``; credentials come from where boto3 looks for them.

        Args:
            url: the bucket and, optionally, a prefix.
            endpoint_url: an S3 server other than AWS; empty for AWS.
            cache: the folder that keeps what was read.

        Raises:
            InputError: the URL names no bucket.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise InputError(f"{url!r} is not an artifact store; give s3://bucket/prefix")
        client = boto3.client("s3", endpoint_url=endpoint_url or None, config=_CONFIG)
        return cls(client, parts.netloc, parts.path.strip("/"), LocalArtifacts(cache))

    def put(self, folder: Path) -> str:
        """Upload a copy of a folder and return its tree digest; storing it again is a no-op.

        Raises:
            InputError: the folder is empty, holds links, or changed while it was copied.
            TransientError: S3 cannot be reached.
        """
        digest = self._cache.put(folder)
        if self.exists(digest):
            return digest
        copy = self._cache.checkout(digest)
        manifest = tree_manifest(copy)
        with self._translated(digest):
            for name in manifest:
                with (copy / name).open("rb") as stream:
                    self._client.upload_fileobj(stream, self._bucket, self._key(digest, name))
            self._client.put_object(Bucket=self._bucket, Key=self._manifest_key(digest), Body=dump_manifest(manifest))
        return digest

    def checkout(self, digest: str) -> Path:
        """Return the cached folder, every file's sha256 checked on this call; fetched first if it is not intact.

        Raises:
            ModelNotFound: no tree has this digest.
            RegistryError: the stored bytes do not have this digest; the message names the files.
            TransientError: S3 cannot be reached.
        """
        with contextlib.suppress(RegistryError):  # not there, or damaged: to fetch it repairs it
            return self._cache.checkout(digest)
        self._fetch(digest)
        return self._cache.checkout(digest)

    def size_bytes(self, digest: str) -> int:
        """Return the bytes of all files of a tree.

        Raises:
            ModelNotFound: no tree has this digest.
            TransientError: S3 cannot be reached.
        """
        self._manifest(digest)
        with self._translated(digest):
            return sum(entry["Size"] for entry in self._objects(digest))

    def exists(self, digest: str) -> bool:
        """True if a tree with this digest is stored.

        Raises:
            TransientError: S3 cannot be reached.
        """
        try:
            with self._translated(digest):
                self._client.head_object(Bucket=self._bucket, Key=self._manifest_key(digest))
        except ModelNotFound:
            return False
        return True

    def delete(self, digest: str) -> None:
        """Remove a tree and its cached copy; removing one that is not there is a no-op.

        Raises:
            TransientError: S3 cannot be reached.
        """
        with self._translated(digest):
            self._client.delete_object(Bucket=self._bucket, Key=self._manifest_key(digest))
            for entry in list(self._objects(digest)):
                self._client.delete_object(Bucket=self._bucket, Key=entry["Key"])
        self._cache.delete(digest)

    def _fetch(self, digest: str) -> None:
        manifest = self._manifest(digest)
        self._cache.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache.root, prefix="fetch-") as name:
            folder = Path(name)
            for path in manifest:
                self._download(digest, path, folder / path)
            wrong = differences(manifest, manifest_or_empty(folder))
            if wrong:
                raise RegistryError(
                    f"artifact {digest} in s3://{self._bucket}/{self._prefix} is damaged: {'; '.join(wrong)}. "
                    "Nothing was loaded from it; delete it and store it again"
                )
            self._cache.put(folder)

    def _download(self, digest: str, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(ModelNotFound), self._translated(digest):  # what is missing is named by the caller
            self._client.download_file(self._bucket, self._key(digest, name), str(target))

    def _manifest(self, digest: str) -> Manifest:
        with self._translated(digest):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._manifest_key(digest))
            content: bytes = answer["Body"].read()
        return parse_manifest(content, digest)

    def _objects(self, digest: str) -> Iterator[Any]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._key(digest, "")
        )
        for page in pages:
            yield from page.get("Contents", ())

    def _key(self, digest: str, name: str) -> str:
        return f"{self._prefix}/{check_digest(digest)}/{name}"

    def _manifest_key(self, digest: str) -> str:
        return f"{self._prefix}/{check_digest(digest)}.json"

    @contextlib.contextmanager
    def _translated(self, digest: str) -> Iterator[None]:
        """Turn boto3's errors into ours: not there, not reachable for now, or refused."""
        where = f"s3://{self._bucket}/{self._prefix}"
        try:
            yield
        except (HTTPClientError, ConnectionError, RetriesExceededError) as error:
            raise TransientError(f"{where} did not answer: {error}") from error
        except ClientError as error:
            raise _from_answer(error, f"artifact {digest} in {where}") from error
        except BotoCoreError as error:
            raise RegistryError(f"{where} cannot be used: {error}; check credentials, region and endpoint") from error


def _from_answer(error: ClientError, what: str) -> RegistryError | TransientError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _ABSENT:
        return ModelNotFound(f"there is no {what}")
    if status >= 500 or status == 429:
        return TransientError(f"S3 could not serve {what}: {error}")
    return RegistryError(f"S3 refused {what}: {error}; check the bucket's name and the rights of these credentials")
