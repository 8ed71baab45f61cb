"""The requests that come in one round of the event loop are answered together, once the last of them is read.

A quick model computes for less time than it takes the processor to find the code of all that stands around it: read,
checked, computed and answered one by one, requests push each other's code out of its caches. Step by step side by side
they cost half of that, and requests to one version share a run. Nobody waits longer for it: what is written in a round
goes to the sockets at its end.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

MOST_REQUESTS = 16
"""Answered together; more would gain little, and hold up the others."""
MOST_BYTES = 256 * 1024
"""Of their bodies, for what is made of those is in memory at the same time; one request may have more."""


class Request(Protocol):
    """What is asked."""

    @property
    def body(self) -> bytes:
        """What it brings."""


Q = TypeVar("Q", bound=Request)
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)


class Asker(Protocol[R_contra]):
    """Who is answered."""

    @property
    def gone(self) -> bool:
        """True if nobody is there to be answered."""

    def answered(self, answer: R_contra | Coroutine[Any, Any, R_contra]) -> None:
        """Take the answer, now or when it is there."""

    def abort(self) -> None:
        """Learn that there is none."""


class Round(Generic[Q, R]):
    """What was asked since the loop last looked for what has come."""

    def __init__(self, application: Callable[[Sequence[Q]], Sequence[R | Coroutine[Any, Any, R]]]) -> None:
        """Take what answers."""
        self._application = application
        self._asked: list[tuple[Asker[R], Q]] = []

    def ask(self, asker: Asker[R], request: Q) -> None:
        """Let a request be answered with the others of this round."""
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._answer)
        self._asked.append((asker, request))

    def _answer(self) -> None:
        """Answer as many as go together; what is left is answered after the loop has looked for more."""
        some = self._some()
        if self._asked:
            asyncio.get_running_loop().call_soon(self._answer)
        some = [one for one in some if not one[0].gone]
        try:
            answers = self._application([request for _, request in some])
        except BaseException:
            for asker, _ in some:
                asker.abort()
            raise
        for (asker, _), answer in zip(some, answers, strict=True):
            asker.answered(answer)

    def _some(self) -> list[tuple[Asker[R], Q]]:
        size = 0
        for count, (_, request) in enumerate(self._asked):
            size += len(request.body)
            if count == MOST_REQUESTS or (count and size > MOST_BYTES):
                some, self._asked = self._asked[:count], self._asked[count:]
                return some
        some, self._asked = self._asked, []
        return some
