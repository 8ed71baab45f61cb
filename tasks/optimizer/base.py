"""What a pass is: knobs, stage, formats, and one method."""

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from registry.digest import tree_digest
from registry.plugins import PASSES, build_plugin, search_values
from registry.records.model import ArtifactFormat, ArtifactRef, PluginConfig, Signature


class Stage(IntEnum):
    """The order of passes in a recipe; at most one pass of each stage."""

    PRUNE = 1
    SIMPLIFY = 2
    EXPORT = 3
    QUANTIZE = 4
    COMPILE = 5


@dataclass(frozen=True)
class Artifact:
    """A folder with a model in one format."""

    folder: Path
    format: ArtifactFormat
    signature: Signature

    @property
    def file(self) -> Path:
        """The file that a runtime opens."""
        return self.folder / self.format.main_file

    def ref(self) -> ArtifactRef:
        """Digest and size of the folder as it stands."""
        size = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        return ArtifactRef(sha256=tree_digest(self.folder), format=self.format, size_bytes=size)


@dataclass(frozen=True)
class PassContext:
    """All that a pass may use besides its input artifact."""

    workspace: Path
    """An empty folder of this step's own; the produced artifact is written here and nothing elsewhere."""
    source: Artifact
    """The source model, the teacher of a distillation."""
    calibration: Mapping[str, npt.NDArray[np.generic]]
    """Inputs by name, axis 0 the samples; never labels."""
    source_code: str | None = None
    """``FILE.py:FUNCTION``, a function without arguments that returns the user's ``nn.Module``; only on a user's own
    machine, only where the user named it."""
    target: str = "cpu"
    seed: int = 0
    threads: int = 1
    """For the step itself."""
    serving_threads: int = 1
    """Threads that one call of the product will have, for passes that fix their number."""
    deadline: float = float("inf")
    """Unix time after which the step is killed."""

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()


class Pass(BaseModel):
    """One optimization step. Its fields are its knobs; ``apply`` is its only work.

    A subclass is one file in ``tasks/passes/`` (or an entry point in ``burnish.passes``), named by the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: ClassVar[Stage]
    consumes: ClassVar[frozenset[ArtifactFormat]]
    produces: ClassVar[ArtifactFormat]
    suits: ClassVar[frozenset[str] | None] = None
    """Names of the runtimes that the product is made for; None: all that consume the format."""
    needs_calibration: ClassVar[bool] = False
    needs_source_code: ClassVar[bool] = False
    """It works on the user's own ``nn.Module``; without ``PassContext.source_code`` the search leaves it out."""
    deterministic: ClassVar[bool] = True
    """The same artifact, knobs and seed give the same bytes; where they do not, the docstring says why."""

    @classmethod
    def unavailable(cls) -> str | None:
        """Why this pass cannot work on this machine, with the command that would change it; None if it can."""
        return None

    @classmethod
    def search_values(cls) -> dict[str, tuple[Any, ...]]:
        """The values that a search tries, by knob; knobs without declared values keep their default."""
        return search_values(cls)

    @abstractmethod
    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write the produced artifact into ``context.workspace`` and return it.

        Raises:
            CandidateError: this artifact cannot be treated by this pass; the message says why.
        """


def build_pass(config: PluginConfig) -> Pass:
    """Import a pass by name and give it its knobs.

    Raises:
        PluginNotFound: no pass has this name.
        PluginUnavailable: it cannot work here.
        InputError: a knob is unknown or has a wrong value.
    """
    return build_plugin(PASSES, config.name, config.knobs, Pass)  # type: ignore[type-abstract]
