"""The client's calls that ask live traffic which version is better, and what they return."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from burnish.remote import Remote
from burnish.route_replies import Release


@dataclass(frozen=True)
class Arm:
    """One version's part; intervals are (estimate, low, high), None where no request has feedback yet."""

    version: int
    percent: float
    captured: int
    scored: int
    mean: tuple[float, float, float] | None
    difference: tuple[float, float, float] | None
    """The mean less the control's."""
    verdict: str
    """control, better, worse or undecided."""


@dataclass(frozen=True)
class Experiment:
    """Versions beside the champion on live traffic; ``arms`` is empty where none were looked at."""

    id: str
    model: str
    hypothesis: str
    metric: str
    confidence: float
    control: int
    percentages: dict[int, float]
    started_at: str
    ended_at: str | None
    promoted: int | None
    arms: tuple[Arm, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, found: Mapping[str, Any], arms: tuple[Arm, ...] = (), notes: tuple[str, ...] = ()) -> "Experiment":
        """Read the API's record."""
        kept = {name: found[name] for name in _KEPT}
        percentages = {int(version): percent for version, percent in found["split"]["weights"].items()}
        return cls(**kept, percentages=percentages, arms=arms, notes=notes)


_KEPT = (
    "id",
    "model",
    "hypothesis",
    "metric",
    "confidence",
    "control",
    "started_at",
    "ended_at",
    "promoted",
)


class ExperimentCalls:
    """Experiments, through one control API."""

    _control: Remote

    def start_experiment(
        self,
        model: str,
        percentages: Mapping[int, float],
        *,
        metric: str,
        confidence: float = 0.95,
        hypothesis: str = "",
    ) -> Experiment:
        """Split a model's requests between its champion, the control, and other versions, and compare them.

        Args:
            model: the model's name.
            percentages: by version; they sum to 100.
            metric: ``top1``, by labels that come as feedback, or ``score``, by scores that do.
            confidence: that all that is said of the arms holds.
            hypothesis: what is asked, for people.

        Raises:
            InputError: the percentages are none between versions, or the answers cannot be scored so.
            RemoteError: there is no such version (status 404), or another experiment of the model runs (409).
        """
        split = {"weights": {str(version): percent for version, percent in percentages.items()}}
        body = {"split": split, "metric": metric, "confidence": confidence, "hypothesis": hypothesis}
        return Experiment.read(self._control.post(_path(model), body))

    def experiment(self, model: str, experiment_id: str) -> Experiment:
        """Say what is known of an experiment's arms now; one may look as often as one likes.

        Raises:
            RemoteError: there is none (status 404), or the control API failed.
        """
        found = self._control.get(f"{_path(model)}/{quote(experiment_id, safe='')}")
        return Experiment.read(found["experiment"], tuple(_arm(arm) for arm in found["arms"]), tuple(found["notes"]))

    def experiments(self, model: str) -> tuple[Experiment, ...]:
        """List a model's experiments, newest first."""
        return tuple(Experiment.read(found) for found in self._control.items(_path(model), "experiments", {}))

    def end_experiment(
        self, model: str, experiment_id: str, *, promote: int | None = None, reason: str = ""
    ) -> Release:
        """End an experiment: one arm gets all traffic, the champion where none is named.

        Raises:
            InputError: the version is no arm.
            RemoteError: there is no such experiment (status 404), or it has ended (409).
        """
        body = {"promote": promote, "reason": reason}
        return Release.read(self._control.post(f"{_path(model)}/{quote(experiment_id, safe='')}/end", body))


def _path(model: str) -> str:
    return f"/v1/models/{quote(model, safe='')}/experiments"


def _arm(found: Mapping[str, Any]) -> Arm:
    return Arm(**{**found, "mean": _interval(found["mean"]), "difference": _interval(found["difference"])})


def _interval(found: Mapping[str, Any] | None) -> tuple[float, float, float] | None:
    return None if found is None else (found["estimate"], found["low"], found["high"])
