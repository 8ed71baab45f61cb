"""Which candidate to try next: every plain chain once, then what may still win gets repairs, knobs and extra passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tasks.optimizer.catalogue import Knob
from tasks.optimizer.repair import EXCLUDED_LAYERS
from tasks.optimizer.sampler import Sampler
from tasks.optimizer.space import Chain, Settings, is_of_runtime

MAY_WIN = 1.5
"""A chain's knobs are turned if it is at most so many times slower than the best at a first look."""

MAY_WIN_WITH_EXTRAS = 2.0
"""The same for pruning and other extra passes, which may halve the work."""

MAY_WIN_TOGETHER = 1.1
"""The same for two extra passes at once: each alone must have come close to the best."""

TUNED = 3
"""Chains whose knobs are turned."""

BASES = 2
"""Chains that extra passes are tried on top of."""

MENDED = 3
"""Refused chains that repairs are tried for."""

PATIENCE = 8
"""Sampled candidates in a row that bring nothing better before the search ends by itself."""

_BETTER = 0.98
"""Costs that differ by less are noise at a first look."""


@dataclass(frozen=True)
class Trial:
    """A chain with its settings."""

    chain: Chain
    settings: Settings = field(default_factory=dict)
    repairs: "Trial | None" = None
    """The refused trial that this one mends."""

    @property
    def key(self) -> str:
        """Two trials of one key are the same candidate."""
        reduced = self.chain.reduced(self.settings)
        return f"{self.chain.name} {sorted((address, str(value)) for address, value in reduced.items())}"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    costs: tuple[float, ...] | None = None
    """What the policy asks for first and the time at the largest batch, less is better; None if it did not pass."""
    lossy: bool = False
    """Refused for its lost accuracy alone."""


Mend = Callable[[Trial], Trial | None]
"""Asked with the last trial of a refused chain: the repair to try next, or None."""


class Strategy:
    """Proposes trials, each at most once, and learns what came of them."""

    def __init__(self, chains: Sequence[Chain], first: Sequence[Trial], mend: Mend, seed: int) -> None:
        """Propose nothing yet.

        Args:
            chains: all that may be tried; plain ones are tried in this order.
            first: trials that won for similar models, tried before all others.
            mend: finds repairs.
            seed: of the sampler.
        """
        self._chains = {chain.name: chain for chain in chains}
        self._first = first
        self._mend = mend
        self._seed = seed
        self._trials: dict[str, Trial] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._mended: set[str] = set()
        self._proposals = self._phases()
        self.ended = ""
        """Why there is nothing left to propose."""

    def chain(self, name: str) -> Chain | None:
        """The chain of a name."""
        return self._chains.get(name)

    def next(self) -> Trial | None:
        """Propose a trial; None if nothing is left that may win."""
        for trial in self._proposals:
            if trial.key not in self._outcomes:
                return trial
        return None

    def learn(self, trial: Trial, outcome: Outcome) -> None:
        """Take in what came of a trial."""
        self._trials[trial.key] = trial
        self._outcomes[trial.key] = outcome

    def untried(self) -> Iterator[tuple[Chain, str]]:
        """Every chain that was not tried though its plainer chain stood, with the reason; "" if its turn never came."""
        tried = {trial.chain.name for trial in self._trials.values()}
        for chain in self._chains.values():
            if chain.name in tried:
                continue
            reason = self._too_slow(chain)
            if reason is not None:
                yield chain, reason

    def _phases(self) -> Iterator[Trial]:
        yield from self._first
        for chain in self._chains.values():
            if not chain.extras:
                yield Trial(chain)
        known = -1
        while len(self._trials) > known:
            known = len(self._trials)
            yield from self._repairs()
            yield from self._single_knobs(is_of_runtime)
            yield from self._extras()
            yield from self._single_knobs(lambda address: not is_of_runtime(address))
        yield from self._sampled()

    def _repairs(self) -> Iterator[Trial]:
        """For refused chains, ask for repairs until there are no more."""
        refused = [
            trial
            for trial in self._trials.values()
            if self._outcomes[trial.key].lossy and not trial.settings and trial.chain.name not in self._mended
        ]
        for plain in refused[: MENDED - len(self._mended)]:
            self._mended.add(plain.chain.name)
            trial = self._mend(plain)
            while trial:
                yield trial
                trial = self._mend(trial) if trial.key in self._outcomes else None

    def _single_knobs(self, asked: Callable[[str], bool]) -> Iterator[Trial]:
        """Each declared value of each knob alone, on the chains that may win and on those refused for accuracy.

        The knobs of a runtime come first: they need nothing to be built anew.
        """
        for chain in [*self._may_win()[:TUNED], *self._refused()[:MENDED]]:
            kept = self._kept(chain)
            for address, knob in self._knobs_to_turn(chain).items():
                for value in knob.values if asked(address) else ():
                    if value != knob.default:
                        yield Trial(chain, {**kept, address: value})

    def _knobs_to_turn(self, chain: Chain) -> dict[str, Knob]:
        """Every knob; of a refused chain with extra passes theirs alone, as it was right without them."""
        if not chain.extras or self._best_trial(chain.name):
            return chain.knobs
        return {address: knob for address, knob in chain.knobs.items() if address.partition(".")[0] in chain.extras}

    def _extras(self) -> Iterator[Trial]:
        """Extra passes on top of the best chains, one at first, more where each alone came close to the best."""
        place = {chain.name: position for position, (chain, _) in enumerate(self._ranked())}
        with_extras = [chain for chain in self._chains.values() if chain.extras]
        by_number = sorted(
            with_extras, key=lambda one: (len(one.extras), place.get(one.without(one.extras[0]), len(place)))
        )
        for chain in by_number:
            if self._too_slow(chain) == "":
                plainer = self._chains.get(chain.without(chain.extras[0]))
                yield Trial(chain, self._kept(plainer) if plainer else {})

    def _sampled(self) -> Iterator[Trial]:
        """Combinations of knobs that a sampler proposes for the chains that may win, in turns."""
        samplers = {
            chain.name: Sampler(chain, self._kept(chain), self._seed)
            for chain in self._may_win()[:TUNED]
            if len(chain.knobs) > 1
        }
        best, in_vain = self._best(), 0
        while samplers and in_vain < PATIENCE:
            for name, sampler in list(samplers.items()):
                settings = sampler.propose(self._scored(name))
                if settings is None:
                    del samplers[name]
                    continue
                yield Trial(self._chains[name], settings)
                better = self._improved(best)
                best, in_vain = self._best(), 0 if better else in_vain + 1
        self.ended = f"the last {in_vain} candidates brought nothing better" if samplers else "nothing was left to try"

    def _scored(self, name: str) -> list[tuple[Settings, float]]:
        """Every trial of a chain with one figure, less is better; infinite if it did not pass."""
        return [
            (trial.settings, self._slower(self._outcomes[key], together=True))
            for key, trial in self._trials.items()
            if trial.chain.name == name
        ]

    def _best(self) -> tuple[float, ...]:
        """The best of each cost so far."""
        found = [outcome.costs for outcome in self._outcomes.values() if outcome.costs]
        return tuple(min(costs) for costs in zip(*found, strict=True))

    def _improved(self, before: tuple[float, ...]) -> bool:
        return any(new < _BETTER * old for new, old in zip(self._best(), before, strict=True))

    def _slower(self, outcome: Outcome, *, together: bool = False) -> float:
        """How many times slower than the best: in what it is best at, or in all costs together."""
        if not outcome.costs:
            return float("inf")
        ratios = [cost / best if best else 1.0 for cost, best in zip(outcome.costs, self._best(), strict=True)]
        if not together:
            return min(ratios)
        product = 1.0
        for ratio in ratios:
            product *= ratio
        return float(product ** (1 / len(ratios)))

    def _best_trial(self, name: str) -> tuple[Trial, float] | None:
        found = [
            (trial, self._slower(self._outcomes[key]), self._slower(self._outcomes[key], together=True))
            for key, trial in self._trials.items()
            if trial.chain.name == name and self._outcomes[key].costs
        ]
        if not found:
            return None
        trial, slower, _ = min(found, key=lambda one: one[1:])
        return trial, slower

    def _ranked(self) -> list[tuple[Chain, float]]:
        """The chains that passed, the best first, each with how many times slower it is than the best."""
        found = [(chain, best[1]) for chain in self._chains.values() if (best := self._best_trial(chain.name))]
        return sorted(found, key=lambda one: one[1])

    def _may_win(self) -> list[Chain]:
        return [chain for chain, slower in self._ranked() if slower <= MAY_WIN]

    def _refused(self) -> list[Chain]:
        """Chains refused for accuracy that nothing has mended yet."""
        names = {trial.chain.name for key, trial in self._trials.items() if self._outcomes[key].lossy}
        return [self._chains[name] for name in self._chains if name in names and not self._best_trial(name)]

    def _kept(self, chain: Chain) -> Settings:
        """What every further trial of a chain takes over from its best: layers in float, and the runtime's knobs."""
        best = self._best_trial(chain.name)
        settings = best[0].settings if best else {}
        return {
            address: value
            for address, value in settings.items()
            if address.endswith(f".{EXCLUDED_LAYERS}") or is_of_runtime(address)
        }

    def _too_slow(self, chain: Chain) -> str | None:
        """Why a chain with extra passes need not be tried; "" if it may win, None if a plainer chain did not pass."""
        parents = [self._chains[name] for name in map(chain.without, chain.extras) if name in self._chains]
        slower = {parent.name: self._best_trial(parent.name) for parent in parents}
        known = [best[1] for best in slower.values() if best]
        if len(known) < len(parents):
            return None
        limit = MAY_WIN_WITH_EXTRAS if len(chain.extras) == 1 else MAY_WIN_TOGETHER
        if known and max(known) > limit:
            return f"without {' and '.join(chain.extras)} it was {max(known):.1f} times slower than the best"
        best = [one.name for one, _ in self._ranked() if not one.extras][:BASES]
        if len(chain.extras) == 1 and parents and parents[0].name not in best:
            return f"{chain.extras[0]} was tried on the {BASES} fastest chains only"
        if len(chain.extras) == 1 and self._in_vain(chain.extras[0]):
            return f"{chain.extras[0]} did not pass on a faster chain"
        return ""

    def _in_vain(self, extra: str) -> bool:
        """True if chains with an extra pass were tried and none passed."""
        found = [self._outcomes[key] for key, trial in self._trials.items() if trial.chain.extras == (extra,)]
        return bool(found) and all(outcome.costs is None for outcome in found)
