"""Figures in the words of reasons and reports: units, and three digits."""


def milliseconds(value: float) -> str:
    """``0.05312`` is ``0.0531 ms``."""
    return f"{_digits(value)} ms"


def per_second(value: float) -> str:
    """``18832.1`` is ``18,800 /s``."""
    return f"{_digits(value)} /s"


def percent(share: float) -> str:
    """``0.9733`` is ``97.3 %``."""
    return f"{100 * share:.1f} %"


def money(value: float) -> str:
    """``0.5878`` is ``0.588``; the currency is that of the price."""
    return _digits(value)


def millijoules(value: float) -> str:
    """``1.234`` is ``1.23 mJ``."""
    return f"{_digits(value)} mJ"


def data_size(size_bytes: float) -> str:
    """``2500000`` is ``2.38 MiB``."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} bytes"
    for unit in ("KiB", "MiB"):
        size_bytes /= 1024
        if size_bytes < 1024:
            return f"{_digits(size_bytes)} {unit}"
    size_bytes /= 1024
    return f"{_digits(size_bytes)} GiB"


def mebibytes(value: float) -> str:
    """``12.34`` is ``12.3 MiB``."""
    return data_size(value * 2**20)


def _digits(value: float) -> str:
    """Three significant digits, never an exponent."""
    if value == 0:
        return "0"
    decimals = 2 - int(f"{abs(value):.2e}".split("e")[1])
    return f"{round(value, decimals):,.{max(0, decimals)}f}"
