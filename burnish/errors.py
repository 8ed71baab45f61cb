"""The errors of the Python client.

A class exists only where somebody catches it differently::

    BurnishError
    ├── InputError             the caller must change something; never retried; exit code 2
    └── RemoteError            a remote side refused or failed; exit code 3
        └── RemoteUnreachable  nothing accepts connections at the address: the call was never received

A refused gate is a value (``Optimization.refused``), not an error.
"""

from typing import ClassVar


class BurnishError(Exception):
    """Root of every error that the client raises on purpose; ``exit_code`` is what the CLI ends with."""

    exit_code: ClassVar[int] = 3


class InputError(BurnishError):
    """What the caller gave cannot be used; the message says which part and what to change."""

    exit_code: ClassVar[int] = 2


class RemoteError(BurnishError):
    """A remote side refused the call or failed.

    Attributes:
        status: the HTTP status, 0 if there was no answer.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        """Keep the message and the HTTP status."""
        super().__init__(message)
        self.status = status


class RemoteUnreachable(RemoteError):
    """Nothing accepts connections at the address; the call was not received."""
