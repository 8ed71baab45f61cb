"""Accuracy-aware repair: when int8 loses too much, leave the layers that cost most in float and try again."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from registry.digest import json_digest
from registry.errors import CandidateError
from registry.records.gate import RuleOutcome, Verdict
from registry.records.model import PluginConfig
from registry.records.optimization import CandidateResult, CandidateStatus, Sensitivity
from tasks.gates.rules import FIDELITY
from tasks.optimizer.base import Artifact
from tasks.optimizer.cache import Cache
from tasks.optimizer.identity import Identity
from tasks.optimizer.isolation import Limits
from tasks.optimizer.sensitivity import measure_sensitivity

EXCLUDED_LAYERS = "excluded_layers"
MOST = 0.9
"""The share of the summed error that the layers of the first try carry."""
TRIES = 5
"""Recipes that are tried for one refused candidate."""
_BUILDS = 2.0
"""A try is made only while there is time for as many builds as the last one took."""
_SHARE_OF_TIME = 0.25
"""The share of the time left that the measurement of sensitivities may take."""

Chain = str
"""Digest of a recipe without excluded layers and of the runtime: what the tries of one chain have in common."""


@dataclass(frozen=True)
class _Tried:
    """What is known of a chain: with ``fails`` layers in float it was refused, with ``passes`` it was not."""

    fails: int = 0
    passes: int | None = None
    tries: int = 0


class Repair:
    """The repairs of one search. Asked after each judged candidate, it answers with the next recipe to try."""

    def __init__(
        self,
        source: Artifact,
        calibration: Path | None,
        folder: Path,
        cache: Cache,
        identity: Identity,
        limits: Limits,
        repairable: Collection[str],
    ) -> None:
        """Measure nothing yet: sensitivities are measured when a candidate is first refused.

        Args:
            source: the source model, as it lies in the output folder.
            calibration: inputs as ``.npz``; without them nothing can be repaired.
            folder: a folder of its own for the measurement.
            cache: holds the float ONNX graph and the sensitivities.
            identity: the keys of the cache.
            limits: of the measuring child.
            repairable: names of the passes that quantize and have the knob ``excluded_layers``.
        """
        self.sensitivity: Sensitivity | None = None
        self.problem = ""
        """Why sensitivities could not be measured."""
        self._source, self._calibration, self._folder = source, calibration, folder
        self._cache, self._identity, self._limits = cache, identity, limits
        self._repairable = frozenset(repairable)
        self._chains: dict[Chain, _Tried] = {}

    def after(self, result: CandidateResult, left_s: float) -> tuple[PluginConfig, ...] | None:
        """Return the recipe to try next in this candidate's place, on the same runtime; None if there is none.

        A refused candidate gets its costliest layers in float: at first those that carry 90 % of the summed error.
        While it is refused more of them, when it passes fewer, as fewer are faster; at most five tries, and never all.

        Args:
            result: a candidate as it was judged; a repair is recognised by its recipe.
            left_s: the seconds that the search has left to build candidates.
        """
        chain = self._chain(result)
        refused = _refused_by_fidelity(result)
        if chain is None or (result.status is CandidateStatus.REFUSED and not refused):
            return None
        if chain not in self._chains and not refused:
            return None
        if left_s < _BUILDS * result.build_seconds or not self._measured(left_s):
            return None
        tried = self._learn(chain, result)
        layers = self.next_layers(tried)
        if not layers or tried.tries >= TRIES:
            return None
        self._chains[chain] = replace(tried, tries=tried.tries + 1)
        return tuple(self._excluding(step, layers) for step in result.candidate.recipe)

    def next_layers(self, tried: _Tried) -> tuple[str, ...]:
        """Return the layers to leave in float next, sorted; none if no number of layers is left to try."""
        assert self.sensitivity is not None
        layers = self.sensitivity.layers
        count = _next_count(tried, first=_carrying_most([one.error for one in layers]), of=len(layers))
        return tuple(sorted(one.layer for one in layers[:count]))

    def _chain(self, result: CandidateResult) -> Chain | None:
        recipe = result.candidate.recipe
        if not any(step.name in self._repairable for step in recipe):
            return None
        plain = [self._excluding(step, ()) for step in recipe]
        return json_digest([step.model_dump(mode="json") for step in (*plain, result.candidate.runtime)])

    def _excluding(self, step: PluginConfig, layers: tuple[str, ...]) -> PluginConfig:
        if step.name not in self._repairable:
            return step
        knobs = {name: value for name, value in step.knobs.items() if name != EXCLUDED_LAYERS}
        return PluginConfig(name=step.name, knobs={**knobs, EXCLUDED_LAYERS: layers} if layers else knobs)

    def _learn(self, chain: Chain, result: CandidateResult) -> _Tried:
        known = self._chains.get(chain, _Tried())
        count = max(len(_excluded(step)) for step in result.candidate.recipe)
        if _refused_by_fidelity(result):
            known = replace(known, fails=max(known.fails, count))
        else:
            known = replace(known, passes=min(count, known.passes or count))
        self._chains[chain] = known
        return known

    def _measured(self, left_s: float) -> bool:
        """Measure the sensitivities if that was not tried before; tell whether there are any."""
        if self.sensitivity is None and not self.problem and self._calibration is not None:
            timeout_s = min(self._limits.timeout_s, _SHARE_OF_TIME * left_s)
            try:
                self.sensitivity = measure_sensitivity(
                    self._source,
                    self._calibration,
                    self._folder,
                    self._cache,
                    self._identity,
                    replace(self._limits, timeout_s=timeout_s),
                )
            except CandidateError as error:
                self.problem = str(error)
        return self.sensitivity is not None


def _excluded(step: PluginConfig) -> tuple[str, ...]:
    layers = step.knobs.get(EXCLUDED_LAYERS)
    return layers if isinstance(layers, tuple) else ()


def _refused_by_fidelity(result: CandidateResult) -> bool:
    """True if rule fidelity said that accuracy is lost, and no other rule said no: other faults layers do not mend."""
    refusals = result.gate.refusals
    return (
        result.status is CandidateStatus.REFUSED
        and {one.rule for one in refusals} == {FIDELITY}
        and all(one.verdict is Verdict.FAIL or _may_pass(one) for one in refusals)
    )


def _may_pass(outcome: RuleOutcome) -> bool:
    """True if the set cannot tell, but is large enough that fewer losses would pass."""
    return outcome.test is not None and outcome.test.samples >= outcome.test.samples_required


def _carrying_most(errors: list[float]) -> int:
    """Return how many of the errors, the largest first, carry most of their sum."""
    wanted, carried = MOST * math.fsum(errors), 0.0
    for count, error in enumerate(errors, start=1):
        carried += error
        if carried >= wanted:
            return count
    return len(errors)


def _next_count(tried: _Tried, *, first: int, of: int) -> int:
    """Return how many layers to leave in float next; 0 if nothing is left between what fails and what passes.

    Up by doubling while it fails, then halving the distance: a binary search without an upper end.
    """
    if tried.passes is None:
        wanted = max(first, 2 * tried.fails) if tried.fails else first
        count = min(wanted, of - 1)
        return count if count > tried.fails else 0
    return (tried.fails + tried.passes) // 2 if tried.passes - tried.fails > 1 else 0
