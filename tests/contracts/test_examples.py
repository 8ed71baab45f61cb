"""The examples in the docs are plug-ins that work."""

import importlib
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from registry.errors import CandidateError
from registry.plugins import PASSES, RUNTIMES, PluginKind, describe_plugin, load_plugin, plugin_names
from registry.records.model import ArtifactFormat
from serving.runtime import Runtime
from tasks.optimizer.base import Pass, PassContext
from tests.contracts.nets import NETS
from tests.contracts.workshop import Workshop, session, worst

DOCS = Path(__file__).parents[2] / "docs"
NET = "residual"


def install(page: str, kind: PluginKind, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a page's example into a package and announce it as the page says; return the plug-in's name."""
    text = (DOCS / page).read_text(encoding="utf-8")
    source = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    point = re.search(rf'entry-points\."{kind.group}"\]\n(\w+) = "(\w+)\.(\w+)"', text)
    assert source
    assert point
    name, package, module = point.groups()
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    (folder / package / f"{module}.py").write_text(source[1], encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, package, raising=False)
    points = [EntryPoint(name, f"{package}.{module}", kind.group)]
    monkeypatch.setattr("registry.plugins.entry_points", lambda group: points if group == kind.group else [])
    importlib.invalidate_caches()
    return name


def test_the_pass_in_the_docs_works(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = install("write-a-pass.md", PASSES, tmp_path, monkeypatch)
    assert name in plugin_names(PASSES)
    assert describe_plugin(PASSES, name).summary.startswith("Write ONNX Runtime's own graph optimizations")
    step = load_plugin(PASSES, name, Pass)  # type: ignore[type-abstract]
    assert step.search_values() == {"level": ("basic", "extended")}
    (tmp_path / "work").mkdir()
    source = workshop.source(NET, ArtifactFormat.ONNX)
    produced = step().apply(source, PassContext(tmp_path / "work", source, {}))
    inputs = NETS[NET].inputs(3, seed=1)
    assert worst(session("onnxruntime", produced).run(inputs), session("onnxruntime", source).run(inputs)) < 1e-4


def test_the_runtime_in_the_docs_works(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = install("write-a-runtime.md", RUNTIMES, tmp_path, monkeypatch)
    assert name in plugin_names(RUNTIMES)
    runtime = load_plugin(RUNTIMES, name, Runtime)  # type: ignore[type-abstract]
    source = workshop.source(NET, ArtifactFormat.ONNX)
    loaded = runtime().load(source.folder, source.format, source.signature)
    loaded.warm_up()
    inputs = NETS[NET].inputs(3, seed=1)
    assert worst(loaded.run(inputs), workshop.reference(NET).run(inputs)) < 1e-4
    loaded.close()
    with pytest.raises(CandidateError, match=r"model\.onnx"):
        runtime().load(tmp_path, source.format, source.signature)
