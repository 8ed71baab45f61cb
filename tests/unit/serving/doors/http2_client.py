"""An HTTP/2 client that does as it is told, good or bad."""

import asyncio
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, StreamEnded
from h2.settings import Settings
from hyperframe.frame import GoAwayFrame

PATH = "/inference.GRPCInferenceService/ModelInfer"


def call_headers(path: str = PATH, **more: str) -> list[tuple[str, str]]:
    fixed = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a", "te": "trailers"}
    return [*{**fixed, "content-type": "application/grpc", **more}.items()]


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    return bytes([compressed]) + len(message).to_bytes(4) + message


class Http2Client:
    """One connection; events are kept as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: list[Event] = []
        self.closed = False
        self.goodbye: GoAwayFrame | None = None
        self.writer = writer
        self._left = b""
        self._reader = reader

    @classmethod
    async def connect(cls, port: int, settings: dict[Any, int] | None = None) -> "Http2Client":
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        if settings:
            client.h2.local_settings = Settings(client=True, initial_values=settings)
        client.h2.initiate_connection()
        client.flush()
        await client.read_until(lambda: bool(client.events))
        return client

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def ask(self, body: bytes | None, headers: list[tuple[str, str]] | None = None, *, end: bool = True) -> int:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers or call_headers(), end_stream=end and body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=end)
        self.flush()
        return number

    async def read_until(self, enough: Any) -> None:  # noqa: ANN401 - a question
        """Read until there is enough, or the server has hung up; answers settings and pings."""
        async with asyncio.timeout(30):
            while not self.closed and not enough():
                try:
                    data = await self._reader.read(65536)
                except ConnectionResetError:  # it hung up on what was still on its way
                    data = b""
                if not data:
                    self.closed = True
                    return
                self._take(data)

    def _take(self, data: bytes) -> None:
        """Let h2 read on; it would read nothing behind a goodbye."""
        self._left += data
        while len(self._left) >= 9 and len(self._left) >= (end := 9 + int.from_bytes(self._left[:3])):
            frame, self._left = self._left[:end], self._left[end:]
            if frame[3] == GoAwayFrame.type:
                self.goodbye = GoAwayFrame(0)
                self.goodbye.parse_body(memoryview(frame[9:]))
            else:
                self.events += self.h2.receive_data(frame)
        self.flush()

    async def ended(self, *numbers: int) -> None:
        await self.read_until(
            lambda: set(numbers) <= {event.stream_id for event in self.events if isinstance(event, StreamEnded)}
        )

    async def hung_up(self) -> GoAwayFrame | None:
        """Read until the server has hung up; return its goodbye."""
        await self.read_until(lambda: False)
        return self.goodbye

    def of(self, number: int, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind) and getattr(event, "stream_id", 0) == number]

    def status(self, number: int) -> dict[str, str]:
        """The last headers of an answer."""
        found: dict[str, str] = {}
        for event in self.events:
            if getattr(event, "stream_id", None) == number:
                found |= dict(getattr(event, "headers", None) or ())
        return found

    def close(self) -> None:
        self.writer.close()
