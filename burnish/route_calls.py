"""The client's calls that read and change what serves a model."""

from collections.abc import Mapping
from dataclasses import asdict
from urllib.parse import quote

from burnish.remote import Remote
from burnish.route_replies import Policy, Release, Traffic


class RouteCalls:
    """Releases, policy, shadow and traffic, through one control API."""

    _control: Remote

    def promote(self, model: str, version: int, *, expected_generation: int | None = None, reason: str = "") -> Release:
        """Make a version the champion.

        Raises:
            RemoteError: there is no such version (status 404), or the route's generation is another (409).
        """
        body = {"version": version, "expected_generation": expected_generation, "reason": reason}
        return Release.read(self._control.post(f"/v1/models/{quote(model, safe='')}/promote", body))

    def rollback(self, model: str, *, expected_generation: int | None = None, reason: str = "") -> Release:
        """Return a model to the champion before the current one.

        Raises:
            RemoteError: nothing to go back to (status 404), or the route's generation is another (409).
        """
        body = {"expected_generation": expected_generation, "reason": reason}
        return Release.read(self._control.post(f"/v1/models/{quote(model, safe='')}/rollback", body))

    def policy(self, model: str) -> tuple[int, Policy]:
        """Return the route's generation (0: nothing is live) and how the model is served."""
        found = self._control.get(f"/v1/models/{quote(model, safe='')}/policy")
        return found["generation"], Policy(**found["policy"])

    def set_policy(
        self, model: str, policy: Policy, *, expected_generation: int | None = None, reason: str = ""
    ) -> Release:
        """Serve a live model by another policy."""
        body = {"policy": asdict(policy), "expected_generation": expected_generation, "reason": reason}
        return Release.read(self._control.put(f"/v1/models/{quote(model, safe='')}/policy", body))

    def set_shadow(self, model: str, version: int, percent: float = 100, *, reason: str = "") -> Release:
        """Let a version that is not live compute a share of the requests after they were answered."""
        body = {"shadow": {"version": version, "percent": percent}, "reason": reason}
        return Release.read(self._control.put(f"/v1/models/{quote(model, safe='')}/shadow", body))

    def end_shadow(self, model: str, *, reason: str = "") -> Release:
        """Let no version shadow a model any more."""
        return Release.read(self._control.delete(f"/v1/models/{quote(model, safe='')}/shadow", {"reason": reason}))

    def traffic(self, model: str) -> Traffic:
        """Return which versions answer which percentages of a model's requests."""
        return Traffic.read(self._control.get(f"/v1/models/{quote(model, safe='')}/traffic"))

    def set_traffic(
        self,
        model: str,
        percentages: Mapping[int, float],
        *,
        expected_generation: int | None = None,
        reason: str = "",
    ) -> Release:
        """Split a model's requests between its champion and other versions.

        Raises:
            InputError: the percentages do not sum to 100, or leave the champion out.
            RemoteError: there is no such version (status 404), or the route's generation is another (409).
        """
        split = {"weights": {str(version): percent for version, percent in percentages.items()}}
        body = {"split": split, "expected_generation": expected_generation, "reason": reason}
        return Release.read(self._control.put(f"/v1/models/{quote(model, safe='')}/traffic", body))
