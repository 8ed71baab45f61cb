"""The one seam between artifacts and execution: a Runtime loads, a Session runs.

Shape legend: every array's axis 0 is the batch where the signature is batched.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes  # noqa: F401  gives NumPy the type bfloat16
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from registry.errors import CandidateError
from registry.plugins import RUNTIMES, build_plugin, search_values
from registry.records.model import ArtifactFormat, Datatype, PluginConfig, Signature, TensorSpec
from serving.memory import allocated_bytes

Array = npt.NDArray[np.generic]
"""BF16 has the dtype ``bfloat16`` of ``ml_dtypes``; BYTES is an array of objects, each a ``bytes``."""
Arrays = dict[str, Array]

NUMBERS = frozenset(Datatype) - {Datatype.BF16, Datatype.BYTES}
"""The datatypes that NumPy has by itself."""


def bytes_added(since: int, folder: Path) -> int:
    """Return the memory in use that was added since an earlier ``allocated_bytes`` by loading the artifact in a folder.

    It is at least the size of the folder: what a library maps from files is not the allocator's. Where the caller is
    spared the measurement, it is 0.
    """
    return max(allocated_bytes() - since, folder_bytes(folder)) if since else 0


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum((Path(place) / name).stat().st_size for place, _, names in os.walk(folder) for name in names)


FIXED_BATCHES = (1, 2, 4, 8)
"""Batch sizes that a runtime prepares by themselves where its knob ``fixed_batches`` asks for it."""

FIXED_BATCHES_KNOB = "Prepare batches of 1, 2, 4 and 8 each by itself: quicker calls; slower to load and more memory."


def fixed_batches(signature: Signature) -> tuple[int, ...]:
    """Return the batch sizes that can be prepared by themselves: none unless the batch is all that varies."""
    fixed = all(size is not None for spec in signature.inputs for size in spec.shape[1:])
    return FIXED_BATCHES if signature.batched and fixed else ()


_VARYING_SIZES = (1, 8, 64, 256)
"""What a warm-up tries for sizes that vary beside the batch: a convolution takes none below its kernel's, a network
that halves its images none below some power of two."""


class Session(ABC):
    """A loaded model: runs batches on the thread that calls it."""

    value_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """What the library raises for values that the model does not take, such as an index beyond its table."""
    shape_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """What it raises for sizes that the model does not take though its signature does, and maybe for other reasons."""

    _sizes: tuple[int, ...] = _VARYING_SIZES
    """What a warm-up tries; from the first on that went well, this one."""

    def __init__(self, signature: Signature, resident_bytes: int) -> None:
        """Keep what the engine asks of every session.

        Args:
            signature: inputs and outputs, in order.
            resident_bytes: memory that loading added, measured.
        """
        self.signature = signature
        self.resident_bytes = resident_bytes

    @abstractmethod
    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Compute all outputs by name, each C-contiguous, for inputs that match the signature."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back; the session is not used again."""

    def warm_up(self) -> None:
        """Run once on zeros, so that the first request pays no set-up.

        One sample where the signature is batched; further sizes that vary are the least of some that the model takes.
        """
        *less, last = self._sizes if self._varies() else self._sizes[:1]
        for size in less:
            with suppress(Exception):  # whatever the library raises for a size that the model does not take
                self._run_on_zeros(size)
                self._sizes = (size,)
                return
        self._run_on_zeros(last)
        self._sizes = (last,)

    def refuses(self, error: BaseException | None) -> bool:
        """True if what a run raised says that the model does not take the request, not that the session is broken."""
        refusals = self.value_errors + self.shape_errors if self._varies() else self.value_errors
        return isinstance(error, refusals)

    def _varies(self) -> bool:
        """True if more than the batch does."""
        first = 1 if self.signature.batched else 0
        return any(None in spec.shape[first:] for spec in self.signature.inputs)

    def _run_on_zeros(self, varying: int) -> None:
        batched = self.signature.batched
        self.run({spec.name: _zeros(spec, varying, batched=batched) for spec in self.signature.inputs})


def _zeros(spec: TensorSpec, varying: int, *, batched: bool) -> Array:
    shape = [varying if size is None else size for size in spec.shape]
    if batched:
        shape[0] = 1
    if spec.datatype is Datatype.BYTES:
        return np.full(shape, b"", object)
    return np.zeros(shape, spec.datatype.numpy_name)


class Runtime(BaseModel):
    """Loads artifacts into sessions. Its fields are its knobs; ``threads`` is one of every runtime.

    A subclass is one file in ``serving/runtimes/`` (or an entry point in ``burnish.runtimes``), named by the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    consumes: ClassVar[frozenset[ArtifactFormat]]
    reference_for: ClassVar[frozenset[ArtifactFormat]] = frozenset()
    """Source formats for which this runtime, on the untouched source, is the baseline."""
    datatypes: ClassVar[frozenset[Datatype]] = NUMBERS
    """What its sessions take and return."""

    threads: int = Field(default=1, ge=1, description="Threads that one run may use.")

    @classmethod
    def unavailable(cls) -> str | None:
        """Why this runtime cannot work on this machine, with the command that would change it; None if it can."""
        return None

    @classmethod
    def search_values(cls) -> dict[str, tuple[Any, ...]]:
        """The values that a search tries, by knob; knobs without declared values keep their default."""
        return search_values(cls)

    def set_up(self) -> None:
        """Do what the library does once in a process, so that its memory and time are not taken for a model's.

        Nothing by default.
        """
        return

    @abstractmethod
    def load(self, folder: Path, artifact_format: ArtifactFormat, signature: Signature) -> Session:
        """Open the artifact in a folder (its ``main_file``) and return a session ready to run.

        It begins with ``check_datatypes``.

        Raises:
            CandidateError: the artifact cannot be loaded or does not have the signature.
        """

    def check_datatypes(self, signature: Signature) -> None:
        """Check that the runtime takes and returns tensors of every datatype in a signature.

        Raises:
            CandidateError: it does not.
        """
        for spec in (*signature.inputs, *signature.outputs):
            if spec.datatype not in self.datatypes:
                raise CandidateError(
                    f"{type(self).__name__} has no {spec.datatype} tensors, and {spec.name!r} is one; "
                    "serve this model by another runtime"
                )


def build_runtime(config: PluginConfig) -> Runtime:
    """Import a runtime by name and give it its knobs.

    Raises:
        PluginNotFound: no runtime has this name.
        PluginUnavailable: it cannot work here.
        InputError: a knob is unknown or has a wrong value.
    """
    return build_plugin(RUNTIMES, config.name, config.knobs, Runtime)  # type: ignore[type-abstract]
