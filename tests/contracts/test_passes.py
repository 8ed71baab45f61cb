"""What every pass must do; a new file in ``tasks/passes`` is held to it without another line here."""

import json

import numpy as np
import onnx
import pytest
import torch
from torch._inductor import config as inductor

from registry.errors import CandidateError, InputError, PluginUnavailable
from registry.plugins import PASSES, describe_plugin, plugin_names
from registry.records.model import ArtifactFormat, PluginConfig
from tasks.optimizer.base import Artifact, Stage, build_pass
from tests.contracts.nets import NETS
from tests.contracts.workshop import Workshop, pass_class, runtime_for, session, worst

NAMES = plugin_names(PASSES)
NET = "residual"

TOLERANCE = {Stage.PRUNE: 3.0, Stage.SIMPLIFY: 1e-4, Stage.EXPORT: 1e-4, Stage.QUANTIZE: 0.15, Stage.COMPILE: 1e-4}
"""Largest difference from the source on random inputs, in standard deviations of its outputs."""


@pytest.mark.parametrize("name", NAMES)
def test_tells_what_it_does_and_where_it_comes_from(name: str) -> None:
    assert describe_plugin(PASSES, name).summary.endswith((".", ";"))
    assert "Source:" in (pass_class(name).__doc__ or "")


@pytest.mark.parametrize("name", NAMES)
def test_knobs_survive_json(name: str) -> None:
    pass_class(name)
    step = build_pass(PluginConfig(name=name))
    config = PluginConfig(name=name, knobs=json.loads(step.model_dump_json()))
    assert build_pass(PluginConfig.model_validate_json(config.model_dump_json())) == step


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_knob_is_refused(name: str) -> None:
    pass_class(name)
    with pytest.raises(InputError, match="no_such_knob"):
        build_pass(PluginConfig(name=name, knobs={"no_such_knob": 1}))


@pytest.mark.parametrize("name", NAMES)
def test_every_search_value_is_a_value_of_its_knob(name: str) -> None:
    for knob, values in pass_class(name).search_values().items():
        for value in values:
            step = build_pass(PluginConfig(name=name, knobs={knob: value}))
            assert getattr(step, knob) == value


@pytest.mark.parametrize("name", NAMES)
def test_produces_the_declared_format_with_the_same_signature(name: str, workshop: Workshop) -> None:
    step = pass_class(name)
    artifact = workshop.built(name, NET).artifact
    assert artifact.format is step.produces
    assert artifact.file.is_file()
    assert artifact.signature == workshop.source(NET, ArtifactFormat.EXPORTED_PROGRAM).signature


@pytest.mark.parametrize("name", NAMES)
def test_writes_only_its_product_into_its_workspace(name: str, workshop: Workshop) -> None:
    step = pass_class(name)
    built = workshop.built(name, NET)
    assert built.strays == ()
    beside = {"model.bin"} if step.produces is ArtifactFormat.OPENVINO_IR else set()
    assert {path.name for path in built.artifact.folder.rglob("*")} == {step.produces.main_file, *beside}


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_product_answers_like_the_source(name: str, batch_size: int, workshop: Workshop) -> None:
    step = pass_class(name)
    inputs = NETS[NET].inputs(batch_size, seed=1)
    found = session(runtime_for(step), workshop.built(name, NET).artifact).run(inputs)
    assert worst(found, workshop.reference(NET).run(inputs)) < TOLERANCE[step.stage]


@pytest.mark.parametrize("name", NAMES)
def test_same_input_and_knobs_give_the_same_bytes(name: str, workshop: Workshop) -> None:
    step = pass_class(name)
    if not step.deterministic:
        pytest.skip(f"{name} says that it is not: {step.__doc__}")
    again = workshop.build(name, NET, "again").artifact
    assert again.ref() == workshop.built(name, NET).artifact.ref()


@pytest.mark.parametrize("net", sorted(NETS.keys() - {NET}))
@pytest.mark.parametrize("name", NAMES)
def test_other_networks_come_out_right_or_are_refused_with_a_reason(name: str, net: str, workshop: Workshop) -> None:
    step = pass_class(name)
    if step.stage is Stage.COMPILE:
        pytest.skip("compiling takes half a minute a network; one network stands for all")
    inputs = NETS[net].inputs(5, seed=1)
    try:
        artifact = workshop.built(name, net).artifact
    except CandidateError as error:
        assert step.stage is not Stage.EXPORT
        assert len(str(error)) > 40
        return
    found = session(runtime_for(step), artifact).run(inputs)
    assert worst(found, workshop.reference(net).run(inputs)) < TOLERANCE[step.stage]


@pytest.mark.parametrize("name", NAMES)
def test_an_excluded_layer_that_does_not_exist_is_told(name: str, workshop: Workshop) -> None:
    if "excluded_layers" not in pass_class(name).model_fields:
        pytest.skip(f"{name} treats no layer in another way than the others")
    with pytest.raises(CandidateError, match="'no_such_layer'"):
        workshop.build(name, NET, "unknown-layer", ("no_such_layer",))


@pytest.mark.parametrize("name", ["quantize_modelopt", "quantize_static_int8"])
def test_an_excluded_layer_stays_in_float(name: str, workshop: Workshop) -> None:
    def floats(artifact: Artifact) -> set[str]:
        graph = onnx.load(artifact.file).graph
        return {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}

    pass_class(name)
    assert "head.weight" not in floats(workshop.built(name, NET).artifact)
    assert "head.weight" in floats(workshop.build(name, NET, "without-head", ("head",)).artifact)


def test_pruning_takes_parameters_away_and_what_is_left_has_learned(workshop: Workshop) -> None:
    pruned, source = (
        workshop.built("prune_structured", NET).artifact,
        workshop.source(NET, ArtifactFormat.EXPORTED_PROGRAM),
    )
    assert _parameters(pruned) < 0.75 * _parameters(source)
    inputs = NETS[NET].inputs()
    found, wanted = session("torch_export", pruned).run(inputs), workshop.reference(NET).run(inputs)
    expected = wanted["output_0"].astype(np.float64)
    assert np.square(found["output_0"].astype(np.float64) - expected).mean() < 0.25 * expected.var()


def _parameters(artifact: Artifact) -> int:
    return sum(tensor.numel() for tensor in torch.export.load(artifact.file).state_dict.values())


def test_compiling_needs_a_compiler_and_says_how_to_get_one() -> None:
    step = pass_class("compile_aot_inductor")
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert "apt-get install g++" in (step.unavailable() or "")
        with pytest.raises(PluginUnavailable, match="no C"):
            build_pass(PluginConfig(name="compile_aot_inductor"))
