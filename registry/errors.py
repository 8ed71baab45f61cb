"""The whole error tree.

A class exists only where somebody catches it differently::

    BurnishError
    ├── InputError             the user must change something; never retried; exit code 2, HTTP 422
    │   ├── PluginNotFound     no such pass or runtime; the message names the known ones
    │   └── PluginUnavailable  known, but cannot run here; the message holds the command that changes it
    ├── CandidateError         this candidate is lost, the search goes on
    ├── RegistryError          the registry cannot do what was asked; exit code 3
    │   ├── ModelNotFound      no such model or version; HTTP 404
    │   ├── VersionConflict    somebody else changed the route first; HTTP 409
    │   └── StorageFull        a disk, or the quota on it, has no room left; HTTP 507
    └── TransientError         worked a moment ago and may again; the only one that is retried; HTTP 503
        ├── QueueFull          too many wait for this one model; HTTP 429
        └── DeadlineExceeded   the time that the caller gave was over; HTTP 504

Messages say what went wrong, where, and what to do. A refused gate, a breached SLO and found drift are
values, not errors.
"""

from typing import ClassVar


class BurnishError(Exception):
    """Root of every error that Burnish raises on purpose; ``exit_code`` is what the CLI ends with."""

    exit_code: ClassVar[int] = 3


class InputError(BurnishError):
    """What the user gave cannot be used; the message says which part and what to change."""

    exit_code: ClassVar[int] = 2


class PluginNotFound(InputError):
    """No plug-in has this name."""


class PluginUnavailable(InputError):
    """The plug-in exists but cannot run here."""


class CandidateError(BurnishError):
    """One candidate failed to build, run or stay within its limits."""


class RegistryError(BurnishError):
    """The registry refused or could not complete an operation."""


class ModelNotFound(RegistryError):
    """The named model or version does not exist."""


class VersionConflict(RegistryError):
    """The route's generation is not the expected one: another promotion won."""


class StorageFull(RegistryError):
    """A disk has no room for what is to be kept; the operator must make some."""


class TransientError(BurnishError):
    """A remote side did not answer in time; the same call may succeed later."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        """Take the message, and the whole seconds after which a new try makes sense; 0: it never does."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(TransientError):
    """This model has as many requests as it can answer in time; others are served."""


class DeadlineExceeded(TransientError):
    """The time that the caller gave for an answer was over before there was one."""
