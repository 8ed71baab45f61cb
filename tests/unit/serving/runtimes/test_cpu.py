"""What a runtime needs of the CPU is asked of the CPU, and said when it is missing."""

import platform
from pathlib import Path

import pytest
import torch

from registry.errors import CandidateError
from registry.records.model import ArtifactFormat, Datatype, Signature, TensorSpec
from serving.runtimes import aot_inductor, openvino

SPEC = TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 2))
SIGNATURE = Signature(inputs=(SPEC,), outputs=(SPEC,))
HERE = {"AOTI_MACHINE": platform.machine(), "AOTI_CPU_ISA": "AVX512 AVX512_VNNI"}


def test_a_package_for_another_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True, "avx512_vnni": False})
    with pytest.raises(CandidateError, match="avx512_vnni"):
        aot_inductor._check_cpu(HERE, Path("package.pt2"))
    with pytest.raises(CandidateError, match="compiled for other"):
        aot_inductor._check_cpu(HERE | {"AOTI_MACHINE": "other"}, Path("package.pt2"))


@pytest.mark.parametrize("extensions", ["AVX2", "AVX512", "INVALID_VEC_ISA", ""])
def test_a_package_for_this_cpu_or_for_any_is_taken(extensions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True})
    aot_inductor._check_cpu(HERE | {"AOTI_CPU_ISA": extensions}, Path("package.pt2"))


def test_bf16_is_searched_and_taken_only_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_has_bf16", lambda: True)
    assert openvino.OpenVino.search_values()["precision"] == ("f32", "bf16")
    monkeypatch.setattr(openvino, "_has_bf16", lambda: False)
    assert openvino.OpenVino.search_values()["precision"] == ("f32",)
    with pytest.raises(CandidateError, match="bf16"):
        openvino.OpenVino(precision="bf16").load(Path(), ArtifactFormat.ONNX, SIGNATURE)
