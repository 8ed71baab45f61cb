"""What every runtime must do; a new file in ``serving/runtimes`` is held to it without another line here."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from registry.errors import CandidateError, InputError
from registry.plugins import RUNTIMES, describe_plugin, plugin_names
from registry.records.model import ArtifactFormat, Datatype, PluginConfig, Signature, TensorSpec
from serving.runtime import Array, build_runtime
from tests.contracts.nets import NETS
from tests.contracts.workshop import Workshop, consumed_formats, runtime_class, session, worst

NAMES = plugin_names(RUNTIMES)
NET = "residual"
TOLERANCE = 1e-4

CASES = [(name, artifact_format) for name in NAMES for artifact_format in consumed_formats(name)]
QUICK = [case for case in CASES if case[1] is not ArtifactFormat.AOTI_PACKAGE]
"""Compiling takes half a minute a network, so one network stands for all there."""


@pytest.mark.parametrize("name", NAMES)
def test_tells_what_it_is_and_where_that_comes_from(name: str) -> None:
    runtime = runtime_class(name)
    assert describe_plugin(RUNTIMES, name).summary.endswith(".")
    assert "Source:" in (runtime.__doc__ or "")
    assert runtime.reference_for <= runtime.consumes


@pytest.mark.parametrize("name", NAMES)
def test_knobs_survive_json_and_unknown_ones_are_refused(name: str) -> None:
    runtime_class(name)
    runtime = build_runtime(PluginConfig(name=name, knobs={"threads": 2}))
    assert build_runtime(PluginConfig(name=name, knobs=json.loads(runtime.model_dump_json()))) == runtime
    with pytest.raises(InputError, match="no_such_knob"):
        build_runtime(PluginConfig(name=name, knobs={"no_such_knob": 1}))


@pytest.mark.parametrize("name", NAMES)
def test_every_search_value_can_be_loaded_with(name: str, workshop: Workshop) -> None:
    runtime = runtime_class(name)
    artifact = workshop.source(NET, sorted(runtime.consumes)[0])
    for knob, values in runtime.search_values().items():
        for value in values:
            session(name, artifact, **{knob: value}).close()


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize(("name", "artifact_format"), CASES)
def test_computes_what_pytorch_computes(
    name: str, artifact_format: ArtifactFormat, batch_size: int, workshop: Workshop
) -> None:
    runtime_class(name)
    loaded = session(name, workshop.source(NET, artifact_format))
    inputs = NETS[NET].inputs(batch_size, seed=1)
    found = loaded.run(inputs)
    assert all(value.flags.c_contiguous for value in found.values())
    assert worst(found, workshop.reference(NET).run(inputs)) < TOLERANCE
    loaded.close()


@pytest.mark.parametrize("net", sorted(NETS.keys() - {NET}))
@pytest.mark.parametrize(("name", "artifact_format"), QUICK)
def test_computes_other_networks(name: str, artifact_format: ArtifactFormat, net: str, workshop: Workshop) -> None:
    runtime_class(name)
    loaded = session(name, workshop.source(net, artifact_format))
    for batch_size in (1, 5):
        inputs = NETS[net].inputs(batch_size, seed=1)
        assert worst(loaded.run(inputs), workshop.reference(net).run(inputs)) < TOLERANCE


@pytest.mark.parametrize("net", sorted(NETS))
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_batches_prepared_by_themselves_have_the_same_answers(name: str, net: str, workshop: Workshop) -> None:
    artifact = workshop.source(net, ArtifactFormat.ONNX)
    prepared, plain = session(name, artifact, fixed_batches=True), session(name, artifact)
    for batch_size in (1, 2, 3, 8, 1):
        inputs = NETS[net].inputs(batch_size, seed=batch_size)
        assert worst(prepared.run(inputs), plain.run(inputs)) < TOLERANCE
    prepared.close()


@pytest.mark.parametrize("net", sorted(NETS))
def test_memory_that_is_kept_between_calls_changes_no_answer(net: str, workshop: Workshop) -> None:
    artifact = workshop.source(net, ArtifactFormat.ONNX)
    kept, plain = session("onnxruntime", artifact, memory_arena=True), session("onnxruntime", artifact)
    for batch_size in (1, 5, 2, 5, 1):
        inputs = NETS[net].inputs(batch_size, seed=batch_size)
        assert worst(kept.run(inputs), plain.run(inputs)) < TOLERANCE
    kept.close()


def _read_only(images: Array) -> Array:
    images.setflags(write=False)
    return images


def _strided(images: Array) -> Array:
    return np.repeat(images, 2, axis=3)[:, :, :, ::2]


def _odd_stride(images: Array) -> Array:
    """As a train-test split of gray images leaves them: the channel axis has the stride of one number."""
    split = images[:, 0][:, np.newaxis][np.arange(len(images))]
    assert split.strides[1] == split.itemsize
    assert split.flags.c_contiguous
    return split


@pytest.mark.parametrize("layout", [_read_only, _strided, _odd_stride])
@pytest.mark.parametrize(("name", "artifact_format"), CASES)
def test_memory_layout_of_inputs_changes_nothing(
    name: str, artifact_format: ArtifactFormat, layout: Callable[[Array], Array], workshop: Workshop
) -> None:
    runtime_class(name)
    images = NETS[NET].inputs(5, seed=1)["image"]
    wanted = workshop.reference(NET).run({"image": images.copy()})
    laid_out = layout(images)
    np.testing.assert_array_equal(laid_out, images)
    assert worst(session(name, workshop.source(NET, artifact_format)).run({"image": laid_out}), wanted) < TOLERANCE


@pytest.mark.parametrize(("name", "artifact_format"), CASES)
def test_an_answer_stays_as_it_is_while_the_next_is_computed(
    name: str, artifact_format: ArtifactFormat, workshop: Workshop
) -> None:
    runtime_class(name)
    loaded = session(name, workshop.source(NET, artifact_format))
    first = loaded.run(NETS[NET].inputs(3, seed=1))["output_0"]
    kept = first.copy()
    loaded.run(NETS[NET].inputs(3, seed=2))
    np.testing.assert_array_equal(first, kept)
    loaded.close()
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(("name", "artifact_format"), CASES)
def test_warms_up_with_threads_and_tells_its_size(
    name: str, artifact_format: ArtifactFormat, workshop: Workshop
) -> None:
    runtime_class(name)
    artifact = workshop.source(NET, artifact_format)
    loaded = session(name, artifact, threads=2)
    loaded.warm_up()
    assert loaded.signature == artifact.signature
    assert loaded.resident_bytes >= artifact.ref().size_bytes
    loaded.close()


@pytest.mark.parametrize(("name", "artifact_format"), CASES)
@pytest.mark.parametrize("content", [None, b"", b"no model at all"])
def test_a_file_that_is_no_model_loses_the_candidate(
    name: str, artifact_format: ArtifactFormat, content: bytes | None, workshop: Workshop, tmp_path: Path
) -> None:
    runtime_class(name)
    if content is not None:
        (tmp_path / artifact_format.main_file).write_bytes(content)
    signature = workshop.source(NET, ArtifactFormat.EXPORTED_PROGRAM).signature
    with pytest.raises(CandidateError, match=artifact_format.main_file):
        build_runtime(PluginConfig(name=name)).load(tmp_path, artifact_format, signature)


@pytest.mark.parametrize(("name", "artifact_format"), CASES)
def test_a_model_with_another_signature_loses_the_candidate(
    name: str, artifact_format: ArtifactFormat, workshop: Workshop
) -> None:
    runtime_class(name)
    artifact = workshop.source(NET, artifact_format)
    extra = TensorSpec(name="output_1", datatype=Datatype.FP32, shape=(None, 10))
    signature = Signature(inputs=artifact.signature.inputs, outputs=(*artifact.signature.outputs, extra))
    with pytest.raises(CandidateError, match="output"):
        build_runtime(PluginConfig(name=name)).load(artifact.folder, artifact_format, signature)


@pytest.mark.parametrize("name", NAMES)
def test_a_datatype_that_it_lacks_loses_the_candidate(name: str, tmp_path: Path) -> None:
    runtime = runtime_class(name)
    for datatype in sorted(set(Datatype) - runtime.datatypes):
        spec = TensorSpec(name="words", datatype=datatype, shape=(None, 2))
        with pytest.raises(CandidateError, match=f"has no {datatype} tensors, and 'words' is one"):
            build_runtime(PluginConfig(name=name)).load(
                tmp_path, sorted(runtime.consumes)[0], Signature(inputs=(spec,), outputs=(spec,))
            )
