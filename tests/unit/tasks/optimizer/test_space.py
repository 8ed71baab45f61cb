"""The candidate space, over plug-ins that the test itself installs as entry points."""

import sys
from pathlib import Path

import pytest

from registry.errors import PluginNotFound
from registry.records.model import ArtifactFormat
from registry.records.optimization import OptimizationConfig
from tasks.optimizer.identity import Identity
from tasks.optimizer.space import NEEDS_CALIBRATION, Planned, plan, reference_runtime

PASS = '''"""A pass of the tests."""
from typing import ClassVar
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage

class One(Pass):
    """Does nothing."""
    stage: ClassVar[Stage] = Stage.{stage}
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({{ArtifactFormat.{consumes}}})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.{produces}
    {extra}

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        return artifact
'''
RUNTIME = '''"""A runtime of the tests."""
from typing import ClassVar
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from serving.runtime import Runtime

class One(Runtime):
    """Runs nothing."""
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({{ArtifactFormat.{consumes}}})
    {extra}

    def load(self, folder, artifact_format, signature):
        raise NotImplementedError
'''
REFERENCE = "reference_for: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})"
LEVEL = 'level: int = knob(1, search=(1, 2), description="Level.")'
UNAVAILABLE = "@classmethod\n    def unavailable(cls) -> str | None:\n        return 'no such chip here'"


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six passes, some under well-known names, and four runtimes; none of Burnish's own."""
    passes = {
        "export_onnx": ("EXPORT", "EXPORTED_PROGRAM", "ONNX", ""),
        "quantize_dynamic_int8": (
            "QUANTIZE",
            "ONNX",
            "ONNX",
            'level: int = knob(1, search=(1, 2), description="Level.")',
        ),
        "quantize_static_int8": ("QUANTIZE", "ONNX", "ONNX", "needs_calibration: ClassVar[bool] = True"),
        "quantize_modelopt": ("QUANTIZE", "EXPORTED_PROGRAM", "ONNX", 'suits: ClassVar = frozenset({"vino"})'),
        "prune": ("PRUNE", "EXPORTED_PROGRAM", "EXPORTED_PROGRAM", ""),
        "compile": ("COMPILE", "EXPORTED_PROGRAM", "AOTI_PACKAGE", UNAVAILABLE),
    }
    runtimes = {
        "eager": ("EXPORTED_PROGRAM", REFERENCE),
        "ort": ("ONNX", ""),
        "vino": ("ONNX", 'precision: str = knob("f32", search=("f32", "bf16"), description="Type.")'),
        "chip": ("ONNX", UNAVAILABLE),
    }
    for name, (stage, consumes, produces, extra) in passes.items():
        text = PASS.format(stage=stage, consumes=consumes, produces=produces, extra=extra)
        (tmp_path / f"space_{name}.py").write_text(text)
    for name, (consumes, extra) in runtimes.items():
        (tmp_path / f"space_{name}.py").write_text(RUNTIME.format(consumes=consumes, extra=extra))
    (tmp_path / "space_broken.py").write_text('"""Needs what is not there."""\nimport no_such_library\n')
    info = tmp_path / "space-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: space\nVersion: 1.0\n")
    lines = ["[burnish.passes]", *(f"{name} = space_{name}" for name in (*passes, "broken"))]
    lines += ["[burnish.runtimes]", *(f"{name} = space_{name}" for name in runtimes)]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("registry.plugins._modules_by_file", lambda kind: {})
    for name in (*passes, *runtimes):
        sys.modules.pop(f"space_{name}", None)


def planned(config: OptimizationConfig | None = None, *, calibrated: bool = True) -> tuple[Planned, ...]:
    identity = Identity("a" * 64, None, 0, {})
    return plan(ArtifactFormat.EXPORTED_PROGRAM, config or OptimizationConfig(), identity, calibrated=calibrated)


def labels(found: tuple[Planned, ...]) -> list[str]:
    return [one.candidate.label for one in found]


def test_the_baseline_is_first_and_the_only_one() -> None:
    found = planned()
    assert labels(found)[0] == "source @ eager"
    assert [one.baseline for one in found] == [True] + [False] * (len(found) - 1)
    assert reference_runtime(ArtifactFormat.EXPORTED_PROGRAM).name == "eager"


def test_the_order_is_cheap_and_promising_first() -> None:
    tried = [label for one, label in zip(planned(), labels(planned()), strict=True) if not one.skip]
    assert tried == [
        "source @ eager",
        "export_onnx @ ort",
        "export_onnx @ vino",
        "export_onnx @ vino(precision=bf16)",
        "export_onnx > quantize_static_int8 @ ort",
        "export_onnx > quantize_static_int8 @ vino",
        "export_onnx > quantize_static_int8 @ vino(precision=bf16)",
        "quantize_modelopt @ vino",
        "quantize_modelopt @ vino(precision=bf16)",
        "export_onnx > quantize_dynamic_int8 @ ort",
        "export_onnx > quantize_dynamic_int8 @ vino",
        "export_onnx > quantize_dynamic_int8 @ vino(precision=bf16)",
        "prune @ eager",
        "prune > export_onnx @ ort",
        "prune > export_onnx @ vino",
        "prune > export_onnx @ vino(precision=bf16)",
        "prune > export_onnx > quantize_static_int8 @ ort",
        "prune > export_onnx > quantize_static_int8 @ vino",
        "prune > export_onnx > quantize_static_int8 @ vino(precision=bf16)",
        "prune > quantize_modelopt @ vino",
        "prune > quantize_modelopt @ vino(precision=bf16)",
        "prune > export_onnx > quantize_dynamic_int8 @ ort",
        "prune > export_onnx > quantize_dynamic_int8 @ vino",
        "prune > export_onnx > quantize_dynamic_int8 @ vino(precision=bf16)",
        "export_onnx > quantize_dynamic_int8(level=2) @ ort",
        "export_onnx > quantize_dynamic_int8(level=2) @ vino",
        "export_onnx > quantize_dynamic_int8(level=2) @ vino(precision=bf16)",
        "prune > export_onnx > quantize_dynamic_int8(level=2) @ ort",
        "prune > export_onnx > quantize_dynamic_int8(level=2) @ vino",
        "prune > export_onnx > quantize_dynamic_int8(level=2) @ vino(precision=bf16)",
    ]


def test_every_id_is_its_own() -> None:
    ids = [one.candidate.id for one in planned()]
    assert len(set(ids)) == len(ids)


def test_plugins_that_cannot_work_here_are_skipped_with_their_reason() -> None:
    skipped = {label: one.skip for one, label in zip(planned(), labels(planned()), strict=True) if one.skip}
    assert skipped["compile @ eager"] == "the pass 'compile' cannot run here: no such chip here"
    assert skipped["source @ chip"] == "the runtime 'chip' cannot run here: no such chip here"
    assert "pip install no_such_library" in skipped["broken @ eager"]


def test_without_a_calibration_set_what_needs_one_is_skipped() -> None:
    for one in planned(calibrated=False):
        names = {step.name for step in one.candidate.recipe}
        assert (one.skip == NEEDS_CALIBRATION) == ("quantize_static_int8" in names)


def test_only_what_the_configuration_names_is_tried() -> None:
    config = OptimizationConfig(passes=("export_onnx",), runtimes=("vino",))
    assert labels(planned(config)) == ["source @ eager", "export_onnx @ vino", "export_onnx @ vino(precision=bf16)"]
    assert labels(planned(OptimizationConfig(passes=()))) == ["source @ eager", "source @ chip"]


def test_an_unknown_name_in_the_configuration_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(PluginNotFound, match="export_onnx"):
        planned(OptimizationConfig(passes=("exprot_onnx",)))


def test_threads_are_a_knob_of_every_runtime() -> None:
    found = planned(OptimizationConfig(passes=("export_onnx",), runtimes=("ort",), threads=2))
    assert labels(found) == ["source @ eager(threads=2)", "export_onnx @ ort(threads=2)"]


def test_ids_change_with_everything_that_decides_what_a_candidate_is(tmp_path: Path) -> None:
    base = Identity("a" * 64, None, 0, {"onnx": "1"})
    others = [
        Identity("b" * 64, None, 0, {"onnx": "1"}),
        Identity("a" * 64, "c" * 64, 0, {"onnx": "1"}),
        Identity("a" * 64, None, 1, {"onnx": "1"}),
        Identity("a" * 64, None, 0, {"onnx": "2"}),
    ]
    candidate = planned(OptimizationConfig(passes=("export_onnx",)))[1].candidate
    ids = {one.candidate(candidate.recipe, candidate.runtime).id for one in (base, *others)}
    source = tmp_path / "space_export_onnx.py"
    source.write_text(source.read_text() + "# changed\n")
    ids.add(Identity("a" * 64, None, 0, {"onnx": "1"}).candidate(candidate.recipe, candidate.runtime).id)
    assert len(ids) == 6
