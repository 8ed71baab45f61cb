"""Where the casts say that they do not pay."""

import pytest

from tasks.passes.cast_bfloat16 import CastBfloat16
from tasks.passes.cast_float16 import CastFloat16


@pytest.mark.parametrize("capability", ["avx512_bf16", "amx_bf16", None])
def test_bfloat16_wants_instructions_for_it(capability: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {capability: True, "avx512_f": True})
    reason = CastBfloat16.unavailable()
    assert reason is None if capability else "no bfloat16 instructions" in (reason or "")


def test_float16_wants_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "GPU" in (CastFloat16.unavailable() or "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert CastFloat16.unavailable() is None
