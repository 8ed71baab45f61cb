"""Open-loop load: requests leave at a constant rate whatever becomes of them, and every one is accounted for."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

ANSWER_SECONDS = 60.0
"""A request without an answer after this time is lost."""


@dataclass(frozen=True)
class Answered:
    """One request with its answer; times are of the monotonic clock."""

    sent: float
    answered: float
    status: int
    version: int | None
    body: bytes


@dataclass
class Account:
    """What was sent and what came of it."""

    sent: int = 0
    answers: list[Answered] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """Requests without an answer, each with the reason."""

    @property
    def by_status(self) -> Counter[int]:
        """Answers by HTTP status."""
        return Counter(answer.status for answer in self.answers)

    @property
    def by_version(self) -> Counter[int | None]:
        """Answers by the version that made them."""
        return Counter(answer.version for answer in self.answers)

    def check(self) -> None:
        """Fail unless every request was answered with 200."""
        odd = next((answer for answer in self.answers if answer.status != 200), None)
        assert (self.lost, odd) == ([], None)
        assert len(self.answers) == self.sent > 0


class _Address:
    """One server, with connections to it that are kept and used again."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self.host, self.port = parts.hostname, parts.port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection(self.host, self.port)
        try:
            head = f"POST {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            status, headers = await _read_head(reader)
            content = await reader.readexactly(int(headers.get("content-length", "0")))
        except BaseException:
            writer.close()
            raise
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._free.append((reader, writer))
        return status, headers, content

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


@asynccontextmanager
async def open_loop(urls: Sequence[str], path: str, body: bytes, rate: float) -> AsyncIterator[Account]:
    """Send requests to the servers in turn, at a rate a second in all, until the block ends; then await the answers."""
    account = Account()
    addresses = [_Address(url) for url in urls]
    requests: set[asyncio.Task[None]] = set()

    async def ask(address: _Address) -> None:
        sent = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, headers, content = await address.post(path, body)
        except (OSError, EOFError, ValueError) as error:  # TimeoutError is an OSError
            account.lost.append(f"{address.port}: {error!r}")
            return
        version = headers.get("x-burnish-version")
        answer = Answered(sent, time.monotonic(), status, int(version) if version else None, content)
        account.answers.append(answer)

    async def send() -> None:
        start = time.monotonic()
        while True:
            task = asyncio.create_task(ask(addresses[account.sent % len(addresses)]))
            requests.add(task)
            task.add_done_callback(requests.discard)
            account.sent += 1
            await asyncio.sleep(max(0.0, start + account.sent / rate - time.monotonic()))

    sender = asyncio.create_task(send())
    try:
        yield account
    finally:
        sender.cancel()
        await asyncio.gather(*requests)
        for address in addresses:
            address.close()


def infer_body(*rows: Sequence[float]) -> bytes:
    """An inference request for the input ``x`` of rows."""
    data = [value for row in rows for value in row]
    shape = [len(rows), len(rows[0])]
    return orjson.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]})


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in headers}
