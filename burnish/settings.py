"""Where the stack is: ``BURNISH_CONTROL_URL`` and ``BURNISH_GATEWAY_URL``, or else the stack of ``BURNISH_HOME``.

The stack's own settings (``BURNISH_HOST``, ``BURNISH_CONTROL_PORT``, ``BURNISH_GATEWAY_PORT``) mean here what they mean
to the stack: the environment wins over ``stack.json`` in the home folder, which wins over the defaults.
``BURNISH_API_KEY`` is the key that is sent to both. ``BURNISH_HISTORY`` is the file in which ``burnish optimize`` keeps
what later searches learn from.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from burnish.errors import InputError

STACK_FILE = "stack.json"
DEFAULTS = {"host": "127.0.0.1", "control_port": 8080, "gateway_port": 8000}


@dataclass(frozen=True)
class Endpoints:
    """The two addresses that a client speaks to, and the key that opens them."""

    control_url: str
    gateway_url: str
    api_key: str | None = field(default=None, repr=False)


def find_endpoints(
    control_url: str | None = None, gateway_url: str | None = None, api_key: str | None = None
) -> Endpoints:
    """Return addresses and key: those given, or the environment's, or the stack's, which has no key.

    Raises:
        InputError: the home folder's ``stack.json`` cannot be read; an address is none, or the key cannot be sent.
    """
    stack = DEFAULTS | _stack_file() | _stack_environment()
    control = control_url or os.environ.get("BURNISH_CONTROL_URL")
    gateway = gateway_url or os.environ.get("BURNISH_GATEWAY_URL")
    return Endpoints(
        control_url=_address("control API", control or f"http://{stack['host']}:{stack['control_port']}"),
        gateway_url=_address("gateway", gateway or f"http://{stack['host']}:{stack['gateway_port']}"),
        api_key=_key(api_key or os.environ.get("BURNISH_API_KEY") or None),
    )


def _address(what: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:  # a port that is none, a bracket too many
        usable = False
    if not usable:
        raise InputError(f"the address of the {what} is {url!r}; give one such as http://HOST:PORT")
    return url


def _key(key: str | None) -> str | None:
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError("the API key (BURNISH_API_KEY) holds characters that no key has, such as a space or a newline")
    return key


def history_file() -> Path:
    """Return where searches keep what they learn from each other: ``BURNISH_HISTORY``, or else the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("BURNISH_HISTORY") or f"{cache}/burnish/history.jsonl").expanduser()


def _stack_environment() -> dict[str, str]:
    return {name: os.environ[key] for name in DEFAULTS if (key := f"BURNISH_{name.upper()}") in os.environ}


def _stack_file() -> dict[str, object]:
    path = Path(os.environ.get("BURNISH_HOME", "~/.burnish")).expanduser() / STACK_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; remove it, or run `burnish up` again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must hold a JSON object; remove it, or run `burnish up` again")
    return {name: found[name] for name in DEFAULTS if name in found}
