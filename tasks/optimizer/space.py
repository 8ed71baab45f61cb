"""The candidate space: every chain of passes on every runtime that fits, and the knobs that may be turned on each."""

import ast
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from registry.errors import InputError
from registry.plugins import RUNTIMES, describe_plugin, plugin_names
from registry.python_source import syntax_tree
from registry.records.model import ArtifactFormat, PluginConfig
from registry.records.optimization import Candidate, OptimizationConfig
from tasks.optimizer.base import Stage
from tasks.optimizer.catalogue import Catalogue, Knob, KnobValue, PassDescription, RuntimeDescription
from tasks.optimizer.identity import Identity

NEEDS_CALIBRATION = "needs a calibration set: give --calibration FILE"
NEEDS_SOURCE_CODE = "needs the model's source code: give --source-code FILE.py:FUNCTION"
_RUNTIME = "@"
"""Sets a runtime's knobs apart from those of a pass of the same name."""

_PROMISING_FIRST = (
    "export_onnx",
    "quantize_static_int8",
    "quantize_nncf",
    "quantize_modelopt",
    "quantize_dynamic_int8",
)
"""As measured on convolutional and dense nets; passes not named come after these."""

Settings = Mapping[str, KnobValue]
"""Values by knob address, ``pass.knob`` or ``@runtime.knob``; knobs not named have their default."""


def is_of_runtime(address: str) -> bool:
    """True if a knob's address names a runtime's knob, not a pass's."""
    return address.startswith(_RUNTIME)


@dataclass(frozen=True)
class Chain:
    """Passes in order, and the runtime that loads what the last of them makes."""

    passes: tuple[PassDescription, ...]
    runtime: RuntimeDescription
    threads: int = 1

    @cached_property
    def name(self) -> str:
        """Such as ``export_onnx > quantize_static_int8 @ onnxruntime``."""
        steps = " > ".join(one.name for one in self.passes) or "source"
        return f"{steps} @ {self.runtime.name}"

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        """Every knob with more than one value to try, by address."""
        found = {f"{one.name}.{name}": knob for one in self.passes for name, knob in one.knobs.items()}
        found |= {f"{_RUNTIME}{self.runtime.name}.{name}": knob for name, knob in self.runtime.knobs.items()}
        return {address: knob for address, knob in found.items() if {*knob.values} - {knob.default}}

    def lacks(self, *, calibrated: bool, source_code: bool) -> str:
        """Why the chain cannot be tried with what the search was given; "" if it can."""
        if not calibrated and any(one.needs_calibration for one in self.passes):
            return NEEDS_CALIBRATION
        if not source_code and any(one.needs_source_code for one in self.passes):
            return NEEDS_SOURCE_CODE
        return ""

    @cached_property
    def extras(self) -> tuple[str, ...]:
        """The passes that are tried only on top of a chain that is good without them.

        Pruning and simplification multiply the chains and, like int8 before a compiler, cost much to build.
        """
        compiled = any(one.stage is Stage.COMPILE for one in self.passes)
        stages = {Stage.PRUNE, Stage.SIMPLIFY} | ({Stage.QUANTIZE} if compiled else set())
        return tuple(one.name for one in self.passes if one.stage in stages)

    def without(self, extra: str) -> str:
        """The name of the chain that lacks one pass."""
        return Chain(tuple(one for one in self.passes if one.name != extra), self.runtime).name

    @property
    def rank(self) -> tuple[int, ...]:
        """Lower is sooner, where nothing is known from earlier searches: compilation last, named passes first."""
        names = [one.name for one in self.passes if one.name in _PROMISING_FIRST]
        promise = max((_PROMISING_FIRST.index(name) + 1 for name in names), default=0)
        compiled = any(one.stage is Stage.COMPILE for one in self.passes)
        return int(compiled), len(self.extras), len(self.passes) - len(names), promise, len(self.passes)

    def candidate(self, settings: Settings, identity: Identity) -> Candidate:
        """Return the candidate with these settings."""
        recipe = tuple(PluginConfig(name=one.name, knobs=_of(settings, f"{one.name}.")) for one in self.passes)
        knobs: dict[str, KnobValue] = {"threads": self.threads} if self.threads != 1 else {}
        own = _of(settings, f"{_RUNTIME}{self.runtime.name}.")
        return identity.candidate(recipe, PluginConfig(name=self.runtime.name, knobs=knobs | own))

    def settings(self, recipe: tuple[PluginConfig, ...], runtime: PluginConfig) -> Settings:
        """Return the settings that a candidate of this chain was made with."""
        found = {f"{step.name}.{name}": value for step in recipe for name, value in step.knobs.items()}
        own = {name: value for name, value in runtime.knobs.items() if name != "threads"}
        return self.reduced(found | {f"{_RUNTIME}{runtime.name}.{name}": value for name, value in own.items()})

    def reduced(self, settings: Settings) -> Settings:
        """Leave out what is the default anyway."""
        return {
            address: value
            for address, value in settings.items()
            if value != () and (address not in self.knobs or value != self.knobs[address].default)
        }


@dataclass(frozen=True)
class Planned:
    """A candidate, and why it cannot be tried if it cannot."""

    candidate: Candidate
    baseline: bool = False
    skip: str = ""
    repairs: str | None = None
    """The id of the refused candidate that it mends."""


def reference_runtime(source_format: ArtifactFormat) -> PluginConfig:
    """Return the runtime that a source of this format is held against; none is imported to find it.

    Raises:
        InputError: no runtime is the reference of this format.
    """
    for name in plugin_names(RUNTIMES):
        file = describe_plugin(RUNTIMES, name).file
        if file and source_format in _declared_references(file):
            return PluginConfig(name=name)
    raise InputError(f"no runtime that is installed is the reference for sources of the format {source_format}")


def planned_baseline(source_format: ArtifactFormat, config: OptimizationConfig, identity: Identity) -> Planned:
    """Return the source as it is on its reference runtime.

    Raises:
        InputError: no runtime is the reference of this format.
    """
    knobs: dict[str, KnobValue] = {"threads": config.threads} if config.threads != 1 else {}
    runtime = PluginConfig(name=reference_runtime(source_format).name, knobs=knobs)
    return Planned(identity.candidate((), runtime), baseline=True)


def chains(source_format: ArtifactFormat, catalogue: Catalogue, threads: int) -> tuple[Chain, ...]:
    """Return every chain with at most one pass a stage whose formats fit, the cheap and promising ones first."""
    by_stage = [[None, *(one for one in catalogue.passes.values() if one.stage is stage)] for stage in sorted(Stage)]
    found = [
        Chain(passes, runtime, threads)
        for choice in itertools.product(*by_stage)
        for passes in [tuple(one for one in choice if one is not None)]
        for runtime in catalogue.runtimes.values()
        if _fits(passes, runtime, source_format)
    ]
    return tuple(sorted(found, key=lambda chain: chain.rank))


def missing(catalogue: Catalogue, baseline: Candidate, identity: Identity) -> Iterator[Planned]:
    """Return one row for each plug-in that cannot work here, with the reason."""
    for name, reason in catalogue.missing_passes.items():
        yield Planned(identity.candidate((PluginConfig(name=name),), baseline.runtime), skip=reason)
    for name, reason in catalogue.missing_runtimes.items():
        if name != baseline.runtime.name:
            yield Planned(identity.candidate((), PluginConfig(name=name)), skip=reason)


def _fits(passes: tuple[PassDescription, ...], runtime: RuntimeDescription, source_format: ArtifactFormat) -> bool:
    current = source_format
    for one in passes:
        if current not in one.consumes or not (one.suits is None or runtime.name in one.suits):
            return False
        current = one.produces
    return current in runtime.consumes


def _of(settings: Settings, prefix: str) -> dict[str, KnobValue]:
    return {address.removeprefix(prefix): value for address, value in settings.items() if address.startswith(prefix)}


def _declared_references(file: Path) -> set[ArtifactFormat]:
    """Read the class variable ``reference_for`` from a runtime's text."""
    declared = [
        node.value
        for node in ast.walk(syntax_tree(file))
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id == "reference_for"
        and node.value
    ]
    names = {part.attr for value in declared for part in ast.walk(value) if isinstance(part, ast.Attribute)}
    return {one for one in ArtifactFormat if one.name in names}
