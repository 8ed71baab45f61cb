"""The candidate space: the baseline first, then every valid recipe on every runtime, cheap and promising ones first."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from registry.errors import CandidateError, InputError, PluginUnavailable
from registry.plugins import PASSES, RUNTIMES, PluginKind, plugin_names, usable_plugin
from registry.records.model import ArtifactFormat, PluginConfig
from registry.records.optimization import Candidate, OptimizationConfig
from serving.runtime import Runtime
from tasks.optimizer.base import Pass, Stage, check_recipe
from tasks.optimizer.identity import Identity

NEEDS_CALIBRATION = "needs a calibration set: give --calibration FILE"
_PROMISING_FIRST = ("export_onnx", "quantize_static_int8", "quantize_modelopt", "quantize_dynamic_int8")
"""As measured on convolutional and dense nets; passes not named come after these."""

P = TypeVar("P", Pass, Runtime)


@dataclass(frozen=True)
class Planned:
    """A candidate, and why it cannot be tried if it cannot."""

    candidate: Candidate
    baseline: bool = False
    skip: str = ""


@dataclass(frozen=True)
class _Recipe:
    """A valid chain of passes."""

    configs: tuple[PluginConfig, ...]
    classes: tuple[type[Pass], ...]
    product: ArtifactFormat

    def runs_on(self, name: str, runtime: type[Runtime]) -> bool:
        """True if the runtime takes the product and every pass is made for it."""
        return self.product in runtime.consumes and all(one.suits is None or name in one.suits for one in self.classes)

    @property
    def has_calibration(self) -> bool:
        """True if a pass of the chain needs a calibration set."""
        return any(one.needs_calibration for one in self.classes)

    @property
    def rank(self) -> tuple[int, ...]:
        """Lower is sooner: compilation last, default knobs before others, pruning after quantization alone."""
        stages = {one.stage for one in self.classes}
        names = [config.name for config in self.configs if config.name in _PROMISING_FIRST]
        promise = max((_PROMISING_FIRST.index(name) + 1 for name in names), default=0)
        unnamed = len(self.configs) - len(names)
        changed = sum(bool(config.knobs) for config in self.configs)
        return Stage.COMPILE in stages, changed, Stage.PRUNE in stages, unnamed, promise, len(self.configs)


def reference_runtime(source_format: ArtifactFormat) -> PluginConfig:
    """Return the runtime that a source of this format is held against.

    Raises:
        InputError: no runtime that is installed is the reference of this format.
    """
    available, _ = _installed(RUNTIMES, Runtime, None)  # type: ignore[type-abstract]
    for name, runtime in available.items():
        if source_format in runtime.reference_for:
            return PluginConfig(name=name)
    raise InputError(f"no runtime that is installed is the reference for sources of the format {source_format}")


def plan(
    source_format: ArtifactFormat, config: OptimizationConfig, identity: Identity, *, calibrated: bool
) -> tuple[Planned, ...]:
    """Return every candidate in the order in which they shall be tried; the first is the baseline.

    Args:
        source_format: of the source model.
        config: which passes and runtimes may be used, and the threads of a run.
        identity: gives candidates their ids.
        calibrated: there is a calibration set.

    Raises:
        PluginNotFound: the configuration names a pass or runtime that does not exist.
    """
    passes, missing_passes = _installed(PASSES, Pass, config.passes)  # type: ignore[type-abstract]
    runtimes, missing_runtimes = _installed(RUNTIMES, Runtime, config.runtimes)  # type: ignore[type-abstract]
    baseline = _configured(reference_runtime(source_format).name, config)
    planned = [Planned(identity.candidate((), baseline), baseline=True)]
    for recipe in sorted(_recipes(passes, source_format), key=lambda recipe: recipe.rank):
        skip = NEEDS_CALIBRATION if recipe.has_calibration and not calibrated else ""
        for name, runtime in runtimes.items():
            if recipe.runs_on(name, runtime):
                planned.extend(
                    Planned(identity.candidate(recipe.configs, variant), skip=skip)
                    for variant in _variants(_configured(name, config), runtime)
                    if (recipe.configs, variant) != ((), baseline)
                )
    planned.extend(
        Planned(identity.candidate((PluginConfig(name=name),), baseline), skip=reason)
        for name, reason in missing_passes.items()
    )
    planned.extend(
        Planned(identity.candidate((), PluginConfig(name=name)), skip=reason)
        for name, reason in missing_runtimes.items()
    )
    return tuple(planned)


def _installed(
    kind: PluginKind, base: type[P], allowed: Iterable[str] | None
) -> tuple[dict[str, type[P]], dict[str, str]]:
    """Return the plug-ins that can work here, and for the others the reason why not."""
    available: dict[str, type[P]] = {}
    missing: dict[str, str] = {}
    for name in plugin_names(kind) if allowed is None else allowed:
        try:
            available[name] = usable_plugin(kind, name, base)
        except PluginUnavailable as error:
            missing[name] = str(error)
    return available, missing


def _configured(name: str, config: OptimizationConfig) -> PluginConfig:
    return PluginConfig(name=name, knobs={"threads": config.threads} if config.threads != 1 else {})


def _recipes(passes: dict[str, type[Pass]], source_format: ArtifactFormat) -> Iterator[_Recipe]:
    """Every valid chain with at most one pass a stage: with default knobs, and with one knob changed."""
    by_stage = [[None, *(name for name, one in passes.items() if one.stage is stage)] for stage in sorted(Stage)]
    for choice in itertools.product(*by_stage):
        names = [name for name in choice if name is not None]
        classes = tuple(passes[name] for name in names)
        try:
            product = check_recipe(tuple(one() for one in classes), source_format)
        except CandidateError:
            continue
        defaults = tuple(PluginConfig(name=name) for name in names)
        yield _Recipe(defaults, classes, product)
        for position, one in enumerate(classes):
            for variant in _variants(defaults[position], one):
                if variant != defaults[position]:
                    changed = (*defaults[:position], variant, *defaults[position + 1 :])
                    yield _Recipe(changed, classes, product)


def _variants(default: PluginConfig, plugin: type[Pass] | type[Runtime]) -> Iterator[PluginConfig]:
    """The default, then each search value of each knob alone, where it is not the default."""
    yield default
    for knob, values in plugin.search_values().items():
        for value in values:
            if value != _default(plugin, knob):
                yield PluginConfig(name=default.name, knobs={**default.knobs, knob: value})


def _default(plugin: type[Pass] | type[Runtime], knob: str) -> Any:  # noqa: ANN401  a knob's value
    return plugin.model_fields[knob].default
