"""What every door reads of a request in the same way: ids and version numbers."""

import re
import time
from random import getrandbits

from registry.errors import InputError

_ID = re.compile(r"[\x21-\x7e]{1,128}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def new_request_id() -> str:
    """Return a new request id, 32 hex digits: unix milliseconds, by which it is found quickly, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000 << 80 | getrandbits(80):032x}"


def is_id(value: str) -> bool:
    """True if a client may give this id: 1 to 128 printable ASCII characters without spaces."""
    return _ID.fullmatch(value) is not None


def checked_id(name: str, value: str) -> str:
    """Return a header's value as an id.

    Raises:
        InputError: it is not 1 to 128 printable ASCII characters without spaces.
    """
    if not is_id(value):
        raise InputError(f"the header {name}: expected 1 to 128 printable ASCII characters without spaces")
    return value


def parse_version(text: str) -> int:
    """Return the number of a version.

    Raises:
        InputError: it is none.
    """
    if not _VERSION.fullmatch(text):
        raise InputError(f"the version: expected a whole number such as 1, got {text!r:.40}")
    return int(text)
