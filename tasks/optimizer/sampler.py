"""Combinations of knobs, proposed by Optuna's tree-structured Parzen estimator."""

import itertools
import math
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import create_trial

from tasks.optimizer.space import Chain, Settings

optuna.logging.set_verbosity(optuna.logging.ERROR)

_ASKED = 30
"""Proposals that are looked at for one that is new."""

_MOST_ENUMERATED = 4096


class Sampler:
    """Proposes settings of one chain that were not tried yet.

    Source: Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011; optuna.samplers.TPESampler.
    """

    def __init__(self, chain: Chain, kept: Settings, seed: int) -> None:
        """Look at the chain's knobs.

        Args:
            chain: whose knobs are turned.
            kept: settings that every proposal has.
            seed: of the sampler.
        """
        self._chain = chain
        self._kept = kept
        self._values = {
            address: tuple(dict.fromkeys((knob.default, *knob.values)))
            for address, knob in chain.knobs.items()
            if address not in kept
        }
        self._space: dict[str, BaseDistribution] = {
            address: CategoricalDistribution(range(len(values))) for address, values in self._values.items()
        }
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=1))
        self._told = 0

    def propose(self, known: Sequence[tuple[Settings, float]]) -> Settings | None:
        """Return settings to try; None if every combination was tried.

        Args:
            known: what was tried and what it cost, less is better; infinite if it did not pass.
        """
        tried = {self._indices(settings) for settings, _ in known}
        self._tell(known)
        for _ in range(_ASKED):
            trial = self._study.ask(self._space)
            indices = tuple(trial.params[address] for address in self._values)
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)  # its cost is told with what is known, later
            if indices not in tried:
                return self._settings(indices)
        return self._any_new(tried)

    def _tell(self, known: Sequence[tuple[Settings, float]]) -> None:
        finite = [cost for _, cost in known if math.isfinite(cost)]
        worst = 2 * max(finite, default=1.0)
        for settings, cost in known[self._told :]:
            params = dict(zip(self._values, self._indices(settings), strict=True))
            value = cost if math.isfinite(cost) else worst
            self._study.add_trial(create_trial(params=params, distributions=self._space, value=value))
        self._told = len(known)

    def _any_new(self, tried: set[tuple[int, ...]]) -> Settings | None:
        every = itertools.product(*(range(len(values)) for values in self._values.values()))
        for indices in itertools.islice(every, _MOST_ENUMERATED):
            if indices not in tried:
                return self._settings(indices)
        return None

    def _indices(self, settings: Settings) -> tuple[int, ...]:
        """Which value of each knob; a value that is not declared counts as the default."""
        return tuple(
            values.index(settings[address]) if settings.get(address) in values and address in settings else 0
            for address, values in self._values.items()
        )

    def _settings(self, indices: tuple[int, ...]) -> Settings:
        chosen = {
            address: values[index] for (address, values), index in zip(self._values.items(), indices, strict=True)
        }
        return self._chain.reduced({**self._kept, **chosen})
