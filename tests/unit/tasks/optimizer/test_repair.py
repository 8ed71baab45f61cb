"""Repair: which layers stay in float next, and when to stop. The measurement is a given here."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import CandidateError
from registry.records.gate import Verdict
from registry.records.model import ArtifactFormat, Datatype, PluginConfig, Signature, TensorSpec
from registry.records.optimization import (
    Candidate,
    CandidateResult,
    CandidateStatus,
    LayerSensitivity,
    Sensitivity,
)
from tasks.optimizer import repair
from tasks.optimizer.base import Artifact
from tasks.optimizer.cache import Cache
from tasks.optimizer.identity import Identity
from tasks.optimizer.isolation import Limits
from tasks.optimizer.repair import Repair
from tests.unit.tasks.optimizer.results import PASSED, candidate, refused

INT8 = "quantize_static_int8"
ERRORS = [50.0, 45.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0]


@pytest.fixture
def mending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repair:
    return mender(tmp_path, ERRORS, monkeypatch)


def mender(folder: Path, errors: list[float], monkeypatch: pytest.MonkeyPatch) -> Repair:
    layers = tuple(
        LayerSensitivity(layer=f"layer{9 - one}", operator="Conv", error=error) for one, error in enumerate(errors)
    )
    monkeypatch.setattr(repair, "measure_sensitivity", lambda *_: Sensitivity(layers=layers, samples=32, seconds=1.0))
    return unmeasured(folder)


def unmeasured(folder: Path, calibration: Path | None = Path("calibration.npz")) -> Repair:
    tensor = TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 1))
    source = Artifact(folder, ArtifactFormat.ONNX, Signature(inputs=(tensor,), outputs=(tensor,)))
    identity = Identity(source="s", calibration="c", seed=0, tools={})
    return Repair(source, calibration, folder, Cache(folder / "cache"), identity, Limits(60.0), {INT8})


def excluded(recipe: tuple[PluginConfig, ...] | None) -> tuple[str, ...]:
    assert recipe is not None
    layers = recipe[-1].knobs.get("excluded_layers", ())
    assert isinstance(layers, tuple)
    return layers


def chain(mending: Repair, needed: int) -> Iterator[tuple[int, bool]]:
    """Try what is answered until there is nothing more; ``needed`` layers in float make a candidate pass."""
    result = lossy(candidate("export_onnx", INT8))
    while (recipe := mending.after(result, 1000.0)) is not None:
        count = len(excluded(recipe))
        tried = Candidate(id=f"{count:064d}", recipe=recipe, runtime=result.candidate.runtime)
        yield count, count >= needed
        result = fine(tried) if count >= needed else lossy(tried)


def lossy(one: Candidate) -> CandidateResult:
    return refused(one, "fidelity", "lost 90 of 898 samples")


def fine(one: Candidate) -> CandidateResult:
    return CandidateResult(candidate=one, status=CandidateStatus.MEASURED, gate=PASSED)


def test_the_first_try_leaves_those_in_float_that_carry_most_of_the_error(mending: Repair) -> None:
    recipe = mending.after(lossy(candidate("export_onnx", INT8)), 100.0)
    assert recipe is not None
    assert recipe[0] == PluginConfig(name="export_onnx")
    assert recipe[1] == PluginConfig(name=INT8, knobs={"excluded_layers": ("layer8", "layer9")})


@pytest.mark.parametrize(
    ("needed", "tried"),
    [(2, [2, 1]), (1, [2, 1]), (3, [2, 4, 3]), (5, [2, 4, 8, 6, 5]), (9, [2, 4, 8, 9]), (10, [2, 4, 8, 9])],
)
def test_more_while_it_fails_fewer_when_it_passes(mending: Repair, needed: int, tried: list[int]) -> None:
    assert [count for count, _ in chain(mending, needed)] == tried


@given(errors=st.lists(st.floats(0, 100), min_size=1, max_size=40), needed=st.integers(1, 40))
def test_a_chain_is_short_and_never_leaves_all_layers_in_float(errors: list[float], needed: int) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        tried = list(chain(mender(Path(folder), sorted(errors, reverse=True), patch), needed))
    assert len(tried) <= repair.TRIES
    assert len({count for count, _ in tried}) == len(tried)
    assert all(0 < count < len(errors) for count, _ in tried)


def test_two_chains_do_not_mix(mending: Repair) -> None:
    one, other = candidate("export_onnx", INT8), candidate("export_onnx", INT8, runtime="openvino")
    assert len(excluded(mending.after(lossy(one), 100.0))) == 2
    assert len(excluded(mending.after(lossy(other), 100.0))) == 2


def test_knobs_of_the_refused_candidate_stay(mending: Repair) -> None:
    plain = candidate("export_onnx", INT8)
    step = PluginConfig(name=INT8, knobs={"calibrate": "percentile"})
    recipe = mending.after(lossy(plain.model_copy(update={"recipe": (step,)})), 100.0)
    assert recipe is not None
    assert recipe[0].knobs == {"calibrate": "percentile", "excluded_layers": ("layer8", "layer9")}


def test_what_passes_or_has_other_faults_is_left_alone(mending: Repair) -> None:
    int8 = candidate("export_onnx", INT8)
    assert mending.after(fine(int8), 100.0) is None
    assert mending.after(refused(int8, "batch_invariant", "depends on its batch-mates"), 100.0) is None
    assert mending.after(refused(int8, "fidelity", "too few samples", Verdict.CANNOT_TELL), 100.0) is None
    assert mending.after(lossy(candidate("prune_structured", "export_onnx")), 100.0) is None
    assert mending.sensitivity is None


def test_no_try_is_begun_that_there_is_no_time_for(mending: Repair) -> None:
    slow = lossy(candidate("export_onnx", INT8)).model_copy(update={"build_seconds": 30.0})
    assert mending.after(slow, 50.0) is None
    assert mending.after(slow, 70.0) is not None


def test_without_a_measurement_there_is_no_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fails(*_: object) -> Sensitivity:
        asked.append(1)
        raise CandidateError("took longer than 5 s and was killed")

    monkeypatch.setattr(repair, "measure_sensitivity", fails)
    mending = unmeasured(tmp_path)
    int8 = lossy(candidate("export_onnx", INT8))
    assert mending.after(int8, 100.0) is None
    assert mending.after(int8, 100.0) is None
    assert len(asked) == 1
    assert "5 s" in mending.problem
    assert unmeasured(tmp_path, calibration=None).after(int8, 100.0) is None
