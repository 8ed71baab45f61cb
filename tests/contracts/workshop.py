"""Builds artifacts of the tiny networks, each once a test run, and watches where passes write."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import openvino
import pytest

from registry.digest import tree_manifest
from registry.errors import CandidateError, PluginNotFound, PluginUnavailable
from registry.plugins import PASSES, RUNTIMES, load_plugin, plugin_names
from registry.records.model import ArtifactFormat, PluginConfig
from serving.runtime import Arrays, Runtime, Session, build_runtime
from tasks.optimizer.base import Artifact, Pass, PassContext, build_pass
from tests.contracts.nets import NETS, exported

T = TypeVar("T")


@dataclass(frozen=True)
class Built:
    """What a pass made of a network, and which files it left or changed outside of its workspace."""

    artifact: Artifact
    strays: tuple[str, ...]


class Workshop:
    """Keeps what it made; a pass that refused a network refuses it again."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[tuple[str, ...], object] = {}

    def source(self, net: str, artifact_format: ArtifactFormat) -> Artifact:
        """A network in a format, made by the plainest way."""
        program, _ = self._once(("source", net), lambda: exported(net, self._root / "source" / net))
        if artifact_format is ArtifactFormat.EXPORTED_PROGRAM:
            return program
        if artifact_format is ArtifactFormat.ONNX:
            return self.built("export_onnx", net).artifact
        if artifact_format is ArtifactFormat.AOTI_PACKAGE:
            return self.built("compile_aot_inductor", net).artifact
        if artifact_format is ArtifactFormat.TENSORRT_PROGRAM:
            return self.built("compile_torch_tensorrt", net).artifact
        return self._once(("ir", net), lambda: self._openvino_ir(net))

    def built(self, name: str, net: str) -> Built:
        """What a pass with its default knobs made of a network."""
        return self._once(("built", name, net), lambda: self.build(name, net, "first"))

    def build(self, name: str, net: str, attempt: str, excluded_layers: tuple[str, ...] = ()) -> Built:
        """Apply a pass anew."""
        knobs = {"excluded_layers": excluded_layers} if excluded_layers else {}
        step = build_pass(PluginConfig(name=name, knobs=knobs))
        consumed = sorted(step.consumes)[0]
        program, artifact = self.source(net, ArtifactFormat.EXPORTED_PROGRAM), self.source(net, consumed)
        workspace = self._root / "work" / name / net / attempt
        workspace.mkdir(parents=True)
        source_code = self._source_code(net) if step.needs_source_code else None
        context = PassContext(workspace, program, NETS[net].inputs(), source_code)
        before = tree_manifest(artifact.folder)
        with _nowhere_to_write(self._root) as strays:
            produced = step.apply(artifact, context)
        changed = [name for name, digest in tree_manifest(artifact.folder).items() if before.get(name) != digest]
        return Built(produced, (*strays, *changed))

    def reference(self, net: str) -> Session:
        """The network itself, in eager PyTorch."""
        artifact = self.source(net, ArtifactFormat.EXPORTED_PROGRAM)
        return session("torch_export", artifact)

    def _source_code(self, net: str) -> str:
        """A file as a user would have it, with a function that builds the network."""
        file = self._root / f"build_{net}.py"
        file.write_text(f"from tests.contracts.nets import NETS\n\n\ndef build():\n    return NETS[{net!r}].build()\n")
        return f"{file}:build"

    def _openvino_ir(self, net: str) -> Artifact:
        onnx = self.source(net, ArtifactFormat.ONNX)
        artifact = Artifact(self._root / "ir" / net, ArtifactFormat.OPENVINO_IR, onnx.signature)
        openvino.save_model(openvino.Core().read_model(str(onnx.file)), str(artifact.file), compress_to_fp16=False)
        return artifact

    def _once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        if key not in self._made:
            try:
                self._made[key] = make()
            except CandidateError as error:
                self._made[key] = error
        made = self._made[key]
        if isinstance(made, CandidateError):
            raise made
        return made  # type: ignore[return-value]  # the key says the type


@contextmanager
def _nowhere_to_write(root: Path) -> Iterator[list[str]]:
    """Stand in an empty folder with an empty temporary folder; list afterwards what they hold."""
    strays: list[str] = []
    before, temporary = Path.cwd(), tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=root) as empty:
        here, there = Path(empty) / "here", Path(empty) / "tmp"
        here.mkdir()
        there.mkdir()
        os.chdir(here)
        tempfile.tempdir = str(there)
        try:
            yield strays
        finally:
            os.chdir(before)
            tempfile.tempdir = temporary
        strays.extend(str(path.relative_to(empty)) for path in Path(empty).rglob("*") if path.is_file())


def pass_class(name: str) -> type[Pass]:
    """A pass's class; the test is skipped with the reason where the pass cannot work."""
    try:
        found: type[Pass] = load_plugin(PASSES, name, Pass)  # type: ignore[type-abstract]
    except PluginUnavailable as error:
        _skip_if_missing(error)
        raise
    if reason := found.unavailable():
        pytest.skip(reason)
    return found


def runtime_class(name: str) -> type[Runtime]:
    """A runtime's class; the test is skipped with the reason where the runtime cannot work."""
    try:
        found: type[Runtime] = load_plugin(RUNTIMES, name, Runtime)  # type: ignore[type-abstract]
    except PluginUnavailable as error:
        _skip_if_missing(error)
        raise
    if reason := found.unavailable():
        pytest.skip(reason)
    return found


def _skip_if_missing(error: PluginUnavailable) -> None:
    """A library that is not here is no fault of the plug-in; whatever else hinders its import is."""
    if isinstance(error.__cause__, ImportError | OSError):
        pytest.skip(str(error))


def consumed_formats(name: str) -> tuple[ArtifactFormat, ...]:
    """The formats that a runtime consumes; none where it cannot be imported, which other tests then skip aloud."""
    try:
        return tuple(sorted(load_plugin(RUNTIMES, name, Runtime).consumes))  # type: ignore[type-abstract]
    except PluginUnavailable:
        return ()


def runtime_for(step: type[Pass]) -> str:
    """The name of a runtime that a pass's product is made for; where none of those works, one that takes the format."""
    names = (*sorted(step.suits or ()), *plugin_names(RUNTIMES))
    return next(name for name in names if step.produces in _consumed_here(name))


def _consumed_here(name: str) -> frozenset[ArtifactFormat]:
    try:
        runtime: type[Runtime] = load_plugin(RUNTIMES, name, Runtime)  # type: ignore[type-abstract]
    except (PluginUnavailable, PluginNotFound):
        return frozenset()
    return frozenset() if runtime.unavailable() else runtime.consumes


def session(runtime: str, artifact: Artifact, **knobs: int | str) -> Session:
    """Load an artifact."""
    built = build_runtime(PluginConfig(name=runtime, knobs=dict(knobs)))
    return built.load(artifact.folder, artifact.format, artifact.signature)


def worst(found: Arrays, wanted: Arrays) -> float:
    """The largest difference between outputs, in standard deviations of what is wanted."""
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in wanted.items()}
    assert {name: value.dtype for name, value in found.items()} == {name: value.dtype for name, value in wanted.items()}
    return max(float(np.abs(difference).max() / deviation) for difference, deviation in _differences(found, wanted))


def _differences(found: Arrays, wanted: Arrays) -> Iterator[tuple[npt.NDArray[np.float64], np.float64]]:
    for name, expected in wanted.items():
        exact = expected.astype(np.float64)
        yield found[name].astype(np.float64) - exact, exact.std()
