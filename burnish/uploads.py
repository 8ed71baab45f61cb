"""Uploads in parts over tus 1.0.0: what was cut goes on where it was cut, without being asked."""

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import httpx

from burnish.errors import InputError, RemoteError
from burnish.files import sha256_of
from burnish.remote import Remote

OnSent = Callable[[int, int], None]
"""Is told how many bytes of a file were sent, and how many it has."""

PART_BYTES = 64 * 2**20
_CHUNK_BYTES = 1 << 20
_PAUSES_S = (0.2, 0.8, 2.0, 5.0, 10.0)
"""Before each further try; from the beginning again whenever something has arrived in between."""

_PASSING = (0, 409, 502, 503, 504)
_TUS = {"Tus-Resumable": "1.0.0"}
_ARTIFACT = "x-burnish-artifact"


def send_file(remote: Remote, path: Path, filename: str, on_sent: OnSent | None = None) -> str:
    """Send one file under one of the names that the control API takes; return the digest of the artifact it became.

    Args:
        remote: the control API.
        path: the file.
        filename: what it is to the control API, such as ``model.pt2``.
        on_sent: is told of the progress; after a cut from where the upload goes on.

    Raises:
        InputError: the file cannot be read or is refused.
        RemoteError: the control API failed, or could not be reached for too long.
    """
    try:
        with path.open("rb") as stream:
            if not path.stat().st_size:
                raise InputError(f"{path} is empty")
            return _Upload(remote, stream, path.stat().st_size, on_sent).send(filename)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


class _Upload:
    """One file on its way."""

    def __init__(self, remote: Remote, stream: BinaryIO, size: int, on_sent: OnSent | None) -> None:
        self._remote = remote
        self._stream = stream
        self._size = size
        self._on_sent = on_sent
        self._failures = 0

    def send(self, filename: str) -> str:
        """Begin, and send part after part until an answer names the artifact."""
        pairs = (("filename", filename), ("sha256", sha256_of(self._stream)))
        metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs)
        beginning = {**_TUS, "Upload-Length": str(self._size), "Upload-Metadata": metadata}
        # With a key of its own the beginning may be sent again without a second upload being begun.
        beginning["Idempotency-Key"] = uuid4().hex
        begun = None
        while begun is None:
            begun = self._tried(self._remote.call, "POST", "/v1/uploads", beginning)
        url, offset, cut = begun.headers["location"], 0, False
        while True:
            answer = self._tried(self._stand, url) if cut else self._tried(self._send_part, url, offset)
            cut = answer is None
            if answer is None:
                continue
            arrived = int(answer.headers["upload-offset"])
            self._failures = 0 if arrived > offset else self._failures
            offset = arrived
            if _ARTIFACT in answer.headers:
                return str(answer.headers[_ARTIFACT])

    def _tried(self, call: Callable[..., httpx.Response], *arguments: object) -> httpx.Response | None:
        """Return the answer, or None after a pause where the call failed in passing.

        Raises:
            InputError: the upload is refused.
            RemoteError: it is refused, or has failed too often in a row.
        """
        try:
            return call(*arguments)
        except RemoteError as error:
            if error.status not in _PASSING or self._failures == len(_PAUSES_S):
                raise
        time.sleep(_PAUSES_S[self._failures])
        self._failures += 1
        return None

    def _stand(self, url: str) -> httpx.Response:
        return self._remote.call("HEAD", url, _TUS)

    def _send_part(self, url: str, offset: int) -> httpx.Response:
        length = min(PART_BYTES, self._size - offset)
        headers = {
            **_TUS,
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(length),
            "Upload-Offset": str(offset),
        }
        return self._remote.call("PATCH", url, headers, self._chunks(offset, length))

    def _chunks(self, offset: int, length: int) -> Iterator[bytes]:
        self._stream.seek(offset)
        left = length
        while left and (chunk := self._stream.read(min(left, _CHUNK_BYTES))):
            yield chunk
            left -= len(chunk)
            if self._on_sent is not None:
                self._on_sent(offset + length - left, self._size)
