"""Read the energy that the processor packages have used, where Linux tells it (RAPL).

The counters are of the whole package: of idle cores and of whatever else the machine did at the time too. Nothing is
subtracted. Sessions that take turns share that burden, so they can be compared with one another; the absolute figure is
an upper bound. A counter steps about once a millisecond, which is why energy is summed over turns and never told of one
call.

Source: Linux kernel, Documentation/power/powercap/powercap.rst; Khan et al., RAPL in action, ACM TOMPECS 3 (2018).
"""

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

_COUNTER, _RANGE = "energy_uj", "max_energy_range_uj"


@dataclass(frozen=True)
class Meter:
    """The counters of all packages."""

    zones: tuple[Path, ...]
    ranges_uj: tuple[int, ...]
    """Where each counter starts again from 0."""

    def read(self) -> tuple[int, ...]:
        """Return every counter in microjoules."""
        return tuple(_number(zone / _COUNTER) for zone in self.zones)

    def used_mj(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings in millijoules."""
        pairs = zip(before, after, self.ranges_uj, strict=True)
        return sum((last - first) % (largest + 1) for first, last, largest in pairs) / 1000


def find_meter(root: Path = POWERCAP) -> Meter | str:
    """Return the packages' counters, or why there are none to read.

    Args:
        root: where Linux lists its power zones.
    """
    # A package is intel-rapl:0, on AMD's processors too; intel-rapl:0:1 is a part of it.
    zones = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)
    if not zones:
        return f"{root} lists no intel-rapl package: a virtual machine, or a processor without counters"
    try:
        meter = Meter(tuple(zones), tuple(_number(zone / _RANGE) for zone in zones))
        meter.read()
    except (OSError, ValueError) as error:
        return f"{zones[0] / _COUNTER} cannot be read: {error}; as root: chmod a+r {root}/intel-rapl:*/{_COUNTER}"
    return meter


def energy_source(root: Path = POWERCAP) -> str:
    """Say in a line what energy is read from, or why none is."""
    found = find_meter(root)
    if isinstance(found, str):
        return f"not measured: {found}"
    return f"RAPL, whole package, nothing subtracted: {', '.join(zone.name for zone in found.zones)}"


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
