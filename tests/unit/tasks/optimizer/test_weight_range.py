"""Weights keep to 7 bits where, and only where, int8 products of the processor saturate."""

import pytest

from tasks.optimizer import weight_range


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", ("avx2", "fma"), True),
        ("AMD64", ("avx512_bf16", "avx512f"), True),
        ("x86_64", ("avx2", "avx512_vnni"), False),
        ("x86_64", ("avx2", "avx_vnni"), False),
        ("aarch64", ("asimd",), False),
    ],
)
def test_products_saturate_on_x86_without_vnni(
    machine: str, flags: tuple[str, ...], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.optimizer.weight_range.platform.machine", lambda: machine)
    monkeypatch.setattr(weight_range, "cpu_flags", lambda: flags)
    assert weight_range.products_saturate() is expected
