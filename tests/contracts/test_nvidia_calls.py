"""The calls into NVIDIA's libraries, which no machine here can run, held against the signatures that were published."""

import ast
import json
from pathlib import Path

import pytest
import torch

from registry.errors import PluginUnavailable
from registry.plugins import PASSES, RUNTIMES, describe_plugin, usable_plugin
from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from serving.runtime import Runtime
from serving.runtimes import tensorrt
from tasks.optimizer.base import Pass

ROOT = Path(__file__).parents[2]
PASS = "tasks/passes/compile_torch_tensorrt.py"

SIGNATURES = json.loads((Path(__file__).parent / "nvidia_signatures.json").read_text(encoding="utf-8"))
"""Names of parameters and options, each list with the file and the commit that it was read from."""


def keywords(file: str, function: str) -> set[str]:
    """The keyword names of every call of a function, written ``library.function``, in a file."""
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function
    ]
    assert calls
    return {keyword.arg for call in calls for keyword in call.keywords if keyword.arg}


@pytest.mark.parametrize("function", ["torch_tensorrt.dynamo.compile", "torch_tensorrt.save", "torch_tensorrt.Input"])
def test_every_argument_is_one_that_was_published(function: str) -> None:
    assert keywords(PASS, function) <= set(SIGNATURES[function]["names"])


@pytest.mark.parametrize("batch", [None, 4])
def test_every_option_of_the_provider_is_one_that_was_published(batch: int | None) -> None:
    spec = TensorSpec(name="image", datatype=Datatype.FP32, shape=(batch, 3, 8))
    signature = Signature(inputs=(spec,), outputs=(spec,))
    options = tensorrt.TensorRt(precision="fp16", largest_batch=16)._options(signature, int8=True)
    assert options.keys() <= set(SIGNATURES[tensorrt.PROVIDER]["names"])
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (True, True)
    profiles = [options.get(f"trt_profile_{name}_shapes") for name in ("min", "opt", "max")]
    assert profiles == ([None] * 3 if batch else ["image:1x3x8", "image:8x3x8", "image:16x3x8"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_they_say_what_would_change_it() -> None:
    base: type[Runtime] = Runtime  # type: ignore[type-abstract]
    for name in ("tensorrt", "torch_tensorrt"):
        with pytest.raises(PluginUnavailable, match=r"pip install 'burnish\[nvidia\]'"):
            usable_plugin(RUNTIMES, name, base)
    with pytest.raises(PluginUnavailable, match=r"pip install 'burnish\[nvidia\]'"):
        usable_plugin(PASSES, "compile_torch_tensorrt", Pass)  # type: ignore[type-abstract]


def test_they_say_that_they_were_never_executed() -> None:
    found = [describe_plugin(RUNTIMES, "tensorrt"), describe_plugin(RUNTIMES, "torch_tensorrt")]
    found.append(describe_plugin(PASSES, "compile_torch_tensorrt"))
    assert all("never executed by this project" in info.summary for info in found)
    assert ArtifactFormat.TENSORRT_PROGRAM.main_file == "program.pt2"
