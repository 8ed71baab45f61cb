"""Energy from counters that a test writes, as Linux shows them."""

from pathlib import Path

import numpy as np
import pytest

from serving.runtime import Array
from tasks.bench import measure
from tasks.bench.energy import Meter, energy_source, find_meter
from tasks.bench.intervals import latency_figures
from tasks.bench.measure import Plan, interleaved
from tests.unit.tasks.gates.sessions import ArraySession, dense

RANGE_UJ = 999_999


def zone(root: Path, name: str, energy_uj: int) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    zone(tmp_path, "intel-rapl:0", 1_000)
    zone(tmp_path, "intel-rapl:1", RANGE_UJ)
    zone(tmp_path, "intel-rapl:0:0", 5)
    (tmp_path / "intel-rapl").mkdir()
    return tmp_path


def meter_of(root: Path) -> Meter:
    found = find_meter(root)
    assert isinstance(found, Meter)
    return found


def test_packages_are_summed_and_their_parts_left_out(powercap: Path) -> None:
    meter = meter_of(powercap)
    before = meter.read()
    assert before == (1_000, RANGE_UJ)
    (powercap / "intel-rapl:0/energy_uj").write_text("3500")
    (powercap / "intel-rapl:1/energy_uj").write_text("499")  # past its range: from 0 again
    assert meter.used_mj(before, meter.read()) == pytest.approx(2.5 + 0.5)
    assert energy_source(powercap) == "RAPL, whole package, nothing subtracted: intel-rapl:0, intel-rapl:1"


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    assert energy_source(tmp_path).startswith(f"not measured: {tmp_path} lists no intel-rapl package")


def test_counters_that_cannot_be_read_say_what_would_help(powercap: Path) -> None:
    counter = powercap / "intel-rapl:0/energy_uj"
    counter.unlink()
    counter.mkdir()  # as root, a file would be readable whatever its mode
    assert "cannot be read: " in energy_source(powercap) and "chmod a+r" in energy_source(powercap)


def test_every_call_adds_what_it_used(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter, used = powercap / "intel-rapl:0/energy_uj", [0]

    def burning(x: Array) -> Array:
        used[0] += 700 * len(x)
        counter.write_text(str(used[0] % (RANGE_UJ + 1)))
        return dense(x)

    monkeypatch.setattr(measure, "find_meter", lambda: meter_of(powercap))
    x = np.zeros((8, 8), np.float32)
    plan = Plan(batch_sizes=(1, 4), seconds_cap=0.0)
    for series in interleaved({"a": ArraySession(burning)}, {"x": x}, plan, lambda _: None):
        figures = latency_figures(series.batch_size, series.latency_ms["a"], series.energy_mj["a"])
        assert figures.energy_mj is not None
        assert figures.energy_mj.estimate == pytest.approx(0.7 * series.batch_size)


def test_without_a_meter_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "find_meter", lambda: "no counters")
    plan = Plan(batch_sizes=(1,), seconds_cap=0.0)
    (series,) = interleaved({"a": ArraySession(dense)}, {"x": np.zeros((8, 8), np.float32)}, plan, lambda _: None)
    assert series.energy_mj == {}
    assert latency_figures(1, series.latency_ms["a"]).energy_mj is None
