"""The candidate space and the descriptions that it is made of, over plug-ins that the test installs itself."""

import sys
from pathlib import Path

import pytest

from registry.errors import InputError, PluginNotFound
from registry.records.model import ArtifactFormat, PluginConfig
from registry.records.optimization import OptimizationConfig
from tasks.optimizer.base import Artifact
from tasks.optimizer.catalogue import Catalogue, catalogue_job
from tasks.optimizer.catalogue_child import describe_plugins
from tasks.optimizer.identity import Identity
from tasks.optimizer.space import (
    NEEDS_CALIBRATION,
    NEEDS_SOURCE_CODE,
    Chain,
    Settings,
    chains,
    missing,
    planned_baseline,
    reference_runtime,
)
from tests.unit.tasks.optimizer.odd_search import source

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
        "prune": ("PRUNE", "EXPORTED_PROGRAM", "EXPORTED_PROGRAM", "needs_source_code: ClassVar[bool] = True"),
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


IDENTITY = Identity("a" * 64, None, 0, {"onnx": "1"})


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    return source(tmp_path / "model")


def catalogue(model: Artifact, config: OptimizationConfig | None = None) -> Catalogue:
    job = catalogue_job(config or OptimizationConfig(), model)
    return Catalogue.model_validate(describe_plugins(job.model_dump(mode="json"), Path()))


def space(model: Artifact, config: OptimizationConfig | None = None, threads: int = 1) -> dict[str, Chain]:
    found = chains(ArtifactFormat.EXPORTED_PROGRAM, catalogue(model, config), threads)
    return {chain.name: chain for chain in found}


def test_the_order_is_cheap_and_promising_first_and_every_chain_fits(model: Artifact) -> None:
    assert list(space(model)) == [
        "source @ eager",
        "export_onnx @ ort",
        "export_onnx @ vino",
        "export_onnx > quantize_static_int8 @ ort",
        "export_onnx > quantize_static_int8 @ vino",
        "quantize_modelopt @ vino",
        "export_onnx > quantize_dynamic_int8 @ ort",
        "export_onnx > quantize_dynamic_int8 @ vino",
        "prune @ eager",
        "prune > export_onnx @ ort",
        "prune > export_onnx @ vino",
        "prune > export_onnx > quantize_static_int8 @ ort",
        "prune > export_onnx > quantize_static_int8 @ vino",
        "prune > quantize_modelopt @ vino",
        "prune > export_onnx > quantize_dynamic_int8 @ ort",
        "prune > export_onnx > quantize_dynamic_int8 @ vino",
    ]


def test_the_child_tells_knobs_and_the_look_of_the_source(model: Artifact) -> None:
    found = catalogue(model)
    level = found.passes["quantize_dynamic_int8"].knobs["level"]
    assert (level.default, level.values) == (1, (1, 2))
    assert found.features is not None
    assert found.features.operators == {"MatMul": 1}
    assert found.features.input_rank == 2
    assert Catalogue.model_validate_json(found.model_dump_json()) == found


def test_settings_become_a_candidate_and_come_back(model: Artifact) -> None:
    chain = space(model, threads=2)["export_onnx > quantize_dynamic_int8 @ vino"]
    assert set(chain.knobs) == {"quantize_dynamic_int8.level", "@vino.precision"}
    settings: Settings = {"quantize_dynamic_int8.level": 2, "@vino.precision": "bf16"}
    candidate = chain.candidate(settings, IDENTITY)
    assert candidate.label == "export_onnx > quantize_dynamic_int8(level=2) @ vino(precision=bf16,threads=2)"
    assert chain.settings(candidate.recipe, candidate.runtime) == settings
    assert chain.reduced({"quantize_dynamic_int8.level": 1, "quantize_dynamic_int8.excluded_layers": ()}) == {}


def test_extra_passes_are_named_with_the_chain_that_lacks_them(model: Artifact) -> None:
    found = space(model)
    pruned = found["prune > export_onnx @ ort"]
    assert pruned.extras == ("prune",)
    assert pruned.without("prune") == "export_onnx @ ort"
    assert found["export_onnx > quantize_static_int8 @ ort"].extras == ()


def test_the_baseline_is_the_source_on_its_reference_runtime_found_without_an_import() -> None:
    assert reference_runtime(ArtifactFormat.EXPORTED_PROGRAM).name == "eager"
    assert "space_eager" not in sys.modules
    baseline = planned_baseline(ArtifactFormat.EXPORTED_PROGRAM, OptimizationConfig(threads=2), IDENTITY)
    assert baseline.candidate.label == "source @ eager(threads=2)"
    with pytest.raises(InputError, match="openvino_ir"):
        reference_runtime(ArtifactFormat.OPENVINO_IR)


def test_plugins_that_cannot_work_here_are_named_with_their_reason(model: Artifact) -> None:
    baseline = IDENTITY.candidate((), PluginConfig(name="eager"))
    found = {one.candidate.label: one.skip for one in missing(catalogue(model), baseline, IDENTITY)}
    assert found["compile @ eager"] == "the pass 'compile' cannot run here: no such chip here"
    assert found["source @ chip"] == "the runtime 'chip' cannot run here: no such chip here"
    assert "pip install no_such_library" in found["broken @ eager"]


def test_what_a_search_was_not_given_is_lacking(model: Artifact) -> None:
    found = space(model)
    static, pruned = found["export_onnx > quantize_static_int8 @ ort"], found["prune @ eager"]
    assert static.lacks(calibrated=False, source_code=False) == NEEDS_CALIBRATION
    assert static.lacks(calibrated=True, source_code=False) == ""
    assert pruned.lacks(calibrated=True, source_code=False) == NEEDS_SOURCE_CODE
    assert pruned.lacks(calibrated=True, source_code=True) == ""


def test_only_what_the_configuration_names_is_tried(model: Artifact) -> None:
    assert list(space(model, OptimizationConfig(passes=("export_onnx",), runtimes=("vino",)))) == ["export_onnx @ vino"]
    assert list(space(model, OptimizationConfig(passes=()))) == ["source @ eager"]


def test_an_unknown_name_in_the_configuration_is_an_error_that_names_the_known_ones(model: Artifact) -> None:
    with pytest.raises(PluginNotFound, match="export_onnx"):
        catalogue_job(OptimizationConfig(passes=("exprot_onnx",)), model)


def test_ids_change_with_everything_that_decides_what_a_candidate_is(tmp_path: Path, model: Artifact) -> None:
    others = [
        Identity("b" * 64, None, 0, {"onnx": "1"}),
        Identity("a" * 64, "c" * 64, 0, {"onnx": "1"}),
        Identity("a" * 64, None, 1, {"onnx": "1"}),
        Identity("a" * 64, None, 0, {"onnx": "2"}),
        Identity("a" * 64, None, 0, {"onnx": "1"}, source_code="d" * 64),
    ]
    chain = space(model)["export_onnx @ ort"]
    ids = {chain.candidate({}, one).id for one in (IDENTITY, *others)}
    file = tmp_path / "space_export_onnx.py"
    file.write_text(file.read_text() + "# changed\n")
    ids.add(chain.candidate({}, Identity("a" * 64, None, 0, {"onnx": "1"})).id)
    assert len(ids) == 7
