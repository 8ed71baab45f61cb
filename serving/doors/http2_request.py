"""What one request over HTTP/2 may cost, and what takes it."""

from typing import NamedTuple, Protocol

from serving.doors.http2_frames import FIRST_WINDOW, Broken, Fault, Setting, more, settings
from serving.doors.http2_reader import LARGEST_FRAME

WINDOW_BYTES = 1024 * 1024
"""That a client may send of one request ahead of what was taken of it."""
CONNECTION_WINDOW_BYTES = 16 * WINDOW_BYTES
STREAMS = 4096
"""Of one connection, far above what there may be of all."""
_IDLE_FRAMES = 1000
"""Frames that ask for nothing, or take back what was asked: so many at once,"""
_IDLE_FRAMES_EACH = 16
"""and so many more for each answer and each part of a body."""


class Http2Limits(NamedTuple):
    """What one connection may cost."""

    header_bytes: int = 64 * 1024
    """Above what the gateway lets through, for all requests of the connection end with one that has more."""
    idle_seconds: float = 75.0
    """Without a request."""

    def greeting(self) -> bytes:
        """Write what a client is told of it when it comes."""
        told = {
            Setting.MAX_CONCURRENT_STREAMS: STREAMS,
            Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            Setting.MAX_FRAME_SIZE: LARGEST_FRAME,
            Setting.MAX_HEADER_LIST_SIZE: self.header_bytes,
        }
        return settings(told) + more(0, CONNECTION_WINDOW_BYTES - FIRST_WINDOW)


class Receiver(Protocol):
    """Takes one request as it comes."""

    deadline: float
    """Loop time after which it is too slow."""
    whole: bool
    """All of the request is here."""

    def receive(self, data: bytes) -> None:
        """Take a part of the body."""

    def ended(self) -> None:
        """Learn that the body is whole."""

    def account(self) -> None:
        """Count what is kept of it, now that nothing more of it is at hand."""

    def time_out(self) -> None:
        """Give it up: it took too long."""

    def over(self) -> None:
        """Let go of it: it is answered, or nobody waits for the answer any more."""


class Patience:
    """With one client that keeps the server busy."""

    def __init__(self) -> None:
        """Begin with all of it."""
        self._left = _IDLE_FRAMES

    def idle(self) -> None:
        """A frame asked for nothing.

        Raises:
            Broken: it was one too many.
        """
        self._left -= 1
        if self._left < 0:
            raise Broken(Fault.ENHANCE_YOUR_CALM)

    def useful(self) -> None:
        """Something was asked, or answered."""
        self._left = min(self._left + _IDLE_FRAMES_EACH, _IDLE_FRAMES)
