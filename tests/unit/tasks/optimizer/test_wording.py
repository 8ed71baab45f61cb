"""Figures in words."""

import pytest

from tasks.optimizer import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.05312, "0.0531 ms"),
        (0.0999951, "0.100 ms"),
        (1, "1.00 ms"),
        (34.51, "34.5 ms"),
        (1234.4, "1,230 ms"),
        (0, "0 ms"),
    ],
)
def test_milliseconds_have_three_digits(value: float, text: str) -> None:
    assert wording.milliseconds(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.00 KiB"), (2.5e6, "2.38 MiB"), (5e12, "4,660 GiB")],
)
def test_sizes_have_their_unit(size: float, text: str) -> None:
    assert wording.data_size(size) == text


def test_other_units() -> None:
    assert wording.per_second(18832.1) == "18,800 /s"
    assert wording.percent(0.9733) == "97.3 %"
    assert wording.mebibytes(12.34) == "12.3 MiB"
