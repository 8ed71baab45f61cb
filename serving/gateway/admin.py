"""Asks a running Envoy what it has in force and what it has refused."""

import re
import time
from collections.abc import Callable

import httpx

from registry.errors import TransientError

_TIMEOUT_S = 2.0
_TAKE_S = 10.0
_POLL_S = 0.005


class Admin:
    """Envoy's admin door, on this machine."""

    def __init__(self, port: int) -> None:
        """Take its port."""
        # A proxy of the environment cannot reach this machine's loopback.
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_TIMEOUT_S, trust_env=False)

    def __enter__(self) -> "Admin":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._http.close()

    def runs(self) -> bool:
        """Tell whether Envoy is there and has read its configuration."""
        try:
            return self._http.get("/ready").is_success
        except httpx.TransportError:
            return False

    def refusals(self) -> dict[str, int]:
        """Return how often Envoy could not read (``update_failure``) or did not take (``update_rejected``) an update.

        By the counter's name, only those that are not zero.
        """
        found = re.findall(r"(?m)^(\S+): (\d+)$", self._stats("update_(failure|rejected)$|config_fail$"))
        return {name: int(number) for name, number in found if int(number)}

    def await_version(self, counter: str, version: str) -> None:
        """Wait until a version of a watched file is in force.

        Raises:
            TransientError: it was not in time.
        """
        self._await(lambda: f'"{version}"' in self._stats(f"^{re.escape(counter)}$"), f"{counter} {version:.12}")

    def await_warm(self) -> None:
        """Wait until no cluster waits for its first health checks.

        Raises:
            TransientError: one did so too long.
        """
        name = "cluster_manager.warming_clusters"
        self._await(lambda: f"{name}: 0" in self._stats(f"^{re.escape(name)}$"), "new clusters")

    def _await(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _TAKE_S
        while not holds():
            if time.monotonic() > deadline:
                refused = ", ".join(f"{name}: {times}" for name, times in self.refusals().items())
                raise TransientError(
                    f"the gateway has not taken its new configuration ({what}) within {_TAKE_S:.0f} s"
                    f"{f'; refused so far: {refused}' if refused else ''}"
                )
            time.sleep(_POLL_S)

    def _stats(self, pattern: str) -> str:
        try:
            return self._http.get("/stats", params={"filter": pattern}).text
        except httpx.TransportError:
            return ""


def refused_updates(port: int) -> tuple[str, ...]:
    """Return a sentence for each kind of update that a running gateway has refused; none if it does not run."""
    with Admin(port) as admin:
        refused = admin.refusals()
    return tuple(f"the gateway has refused {times} updates ({name})" for name, times in sorted(refused.items()))
