"""Figures in the words of reasons and reports: units, and as many digits as the figure has."""


def milliseconds(value: float) -> str:
    """``0.0531`` is ``0.053 ms``."""
    return f"{_digits(value)} ms"


def per_second(value: float) -> str:
    """``18832.1`` is ``18,800 /s``."""
    return f"{_digits(value)} /s"


def percent(share: float) -> str:
    """``0.9733`` is ``97.3 %``."""
    return f"{100 * share:.1f} %"


def data_size(size_bytes: float) -> str:
    """``2500000`` is ``2.4 MiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{_digits(size_bytes)} {unit}"
        size_bytes /= 1024
    return f"{_digits(size_bytes)} GiB"


def mebibytes(value: float) -> str:
    """``12.34`` is ``12 MiB``."""
    return data_size(value * 2**20)


def _digits(value: float) -> str:
    """Three digits where the first is 1, otherwise two; never an exponent."""
    if value == 0:
        return "0"
    leading = f"{abs(value):e}"
    exponent = int(leading.split("e")[1])
    digits = 3 if leading[0] == "1" else 2
    return f"{round(value, digits - 1 - exponent):,.{max(0, digits - 1 - exponent)}f}"
