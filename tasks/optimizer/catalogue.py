"""What the installed passes and runtimes are, asked in a child process: importing them takes seconds and memory."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import Field

from registry.errors import CandidateError, PluginNotFound
from registry.plugins import PASSES, RUNTIMES, PluginKind, plugin_names
from registry.records.base import Record
from registry.records.model import ArtifactFormat
from registry.records.optimization import OptimizationConfig
from tasks.optimizer.base import Artifact, Stage
from tasks.optimizer.isolation import Limits, run_child
from tasks.optimizer.job import PlacedArtifact

CATALOGUE_CHILD = "tasks.optimizer.catalogue_child"
TIMEOUT_S = 120.0
"""For the imports of all plug-ins."""

KnobValue = bool | int | float | str | tuple[str, ...] | None


class Knob(Record):
    """A knob that a search may turn."""

    default: KnobValue
    values: tuple[KnobValue, ...]


class PassDescription(Record):
    """What a search must know of a pass."""

    name: str
    stage: Stage
    consumes: frozenset[ArtifactFormat]
    produces: ArtifactFormat
    suits: frozenset[str] | None = None
    needs_calibration: bool = False
    needs_source_code: bool = False
    leaves_layers: bool = False
    """It has the knob ``excluded_layers``."""
    knobs: dict[str, Knob] = Field(default_factory=dict)


class RuntimeDescription(Record):
    """What a search must know of a runtime."""

    name: str
    consumes: frozenset[ArtifactFormat]
    knobs: dict[str, Knob] = Field(default_factory=dict)


class Features(Record):
    """What a source model looks like from outside; earlier searches are compared by it."""

    format: ArtifactFormat
    operators: dict[str, int] = Field(description="How many nodes of each operator.")
    size_bytes: int = Field(ge=0, description="Of all weights and the graph.")
    input_rank: int = Field(ge=0, description="Dimensions of the largest input, the batch among them.")


class Catalogue(Record):
    """The passes and runtimes that a search may use, and for the others why they cannot work here."""

    passes: dict[str, PassDescription] = Field(default_factory=dict)
    runtimes: dict[str, RuntimeDescription] = Field(default_factory=dict)
    missing_passes: dict[str, str] = Field(default_factory=dict)
    missing_runtimes: dict[str, str] = Field(default_factory=dict)
    features: Features | None = None
    """Of the source; None if they could not be read."""

    def joined(self, other: "Catalogue") -> "Catalogue":
        """Both together."""
        return Catalogue(
            passes=self.passes | other.passes,
            runtimes=self.runtimes | other.runtimes,
            missing_passes=self.missing_passes | other.missing_passes,
            missing_runtimes=self.missing_runtimes | other.missing_runtimes,
            features=self.features or other.features,
        )


class CatalogueJob(Record):
    """Names of the plug-ins to describe, and the source to look at."""

    passes: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    source: PlacedArtifact | None = None


def catalogue_job(config: OptimizationConfig, source: Artifact) -> CatalogueJob:
    """Return which plug-ins a configuration allows; none of them is imported.

    Raises:
        PluginNotFound: the configuration names a pass or runtime that does not exist.
    """
    return CatalogueJob(
        passes=_allowed(PASSES, config.passes),
        runtimes=_allowed(RUNTIMES, config.runtimes),
        source=PlacedArtifact.of(source),
    )


def describe(job: CatalogueJob, workspace: Path, timeout_s: float) -> Catalogue:
    """Describe plug-ins in a child process; if one of them ends the child, each one in a child of its own.

    Args:
        job: the names, and the source.
        workspace: a folder of this work's own; holds the logs.
        timeout_s: for any one child.
    """
    try:
        return _ask(job, workspace, timeout_s)
    except CandidateError:
        pass
    alone = [CatalogueJob(passes=(name,)) for name in job.passes]
    alone += [CatalogueJob(runtimes=(name,)) for name in job.runtimes]
    alone.append(CatalogueJob(source=job.source))
    with ThreadPoolExecutor(max_workers=2) as pool:
        parts = list(pool.map(lambda one: _ask_alone(one, workspace, timeout_s), alone))
    found = Catalogue()
    for part in parts:
        found = found.joined(part)
    return found


def _allowed(kind: PluginKind, names: Iterable[str] | None) -> tuple[str, ...]:
    known = plugin_names(kind)
    if names is None:
        return known
    for name in names:
        if name not in known:
            raise PluginNotFound(f"there is no {kind.noun} {name!r}; known: {', '.join(known)}")
    return tuple(names)


def _ask(job: CatalogueJob, workspace: Path, timeout_s: float) -> Catalogue:
    workspace.mkdir(parents=True, exist_ok=True)
    value = run_child(CATALOGUE_CHILD, job.model_dump(mode="json"), workspace=workspace, limits=Limits(timeout_s))
    return Catalogue.model_validate(value)


def _ask_alone(job: CatalogueJob, workspace: Path, timeout_s: float) -> Catalogue:
    kind = "pass" if job.passes else "runtime" if job.runtimes else "source"
    try:
        return _ask(job, workspace / "-".join((kind, *job.passes, *job.runtimes)), timeout_s)
    except CandidateError as error:
        reason = f"asking what it is failed: {error}"
        return Catalogue(
            missing_passes=dict.fromkeys(job.passes, reason), missing_runtimes=dict.fromkeys(job.runtimes, reason)
        )
