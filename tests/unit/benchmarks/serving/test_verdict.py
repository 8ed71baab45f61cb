"""Figures and goals of serving from rounds whose numbers are known."""

import os
from pathlib import Path

import pytest

from benchmarks.serving import lineup
from benchmarks.serving.figures import Round, Target
from benchmarks.serving.rounds import Bout
from benchmarks.serving.standings import Measured
from benchmarks.serving.verdict import goals

RATES = {
    lineup.BURNISH: 9000.0,
    lineup.BURNISH_2: 12000.0,
    lineup.BURNISH_WIDE: 4000.0,
    lineup.BURNISH_BINARY: 6000.0,
    lineup.BURNISH_GRPC: 3000.0,
    lineup.BARE: 10000.0,
    lineup.BENTOML: 600.0,
    lineup.LITSERVE: 900.0,
    lineup.MLSERVER: 3000.0,
    lineup.MLSERVER_GRPC: 1500.0,
}


def one_round(name: str, connections: int, rate: float, errors: int = 0) -> Round:
    return Round(
        target=name,
        connections=connections,
        seconds=2.0,
        requests=int(2 * rate),
        errors=errors,
        p50_ms=2.0,
        p99_ms=5.0,
        server_cpu=1.0,
        client_cpu=0.5,
    )


def measured(rates: dict[str, float], drift: tuple[float, ...] = (1.0, 0.5, 2.0), errors: int = 0) -> Measured:
    """Rounds in which the whole machine is slower or quicker from cycle to cycle."""
    bouts = [
        Bout(Target(name=name, server="s", ports=(1,), path="/", body=Path("b")), connections)
        for name in rates
        for connections in (16, 32)
    ]
    cycles = [
        [
            one_round(bout.target.name, bout.connections, rates[bout.target.name] * factor, errors)
            if rates[bout.target.name]
            else one_round(bout.target.name, bout.connections, 0)
            for bout in bouts
        ]
        for factor in drift
    ]
    return Measured(bouts, cycles)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_each_goal_compares_rounds_of_the_same_cycle() -> None:
    found = {goal.name: goal for goal in goals(measured(RATES), {})}
    assert found["Burnish over BentoML, 16 connections"].measured == pytest.approx(15)
    assert found["Burnish over bare ASGI, 32 connections"].measured == pytest.approx(0.9)
    assert found["Burnish, binary of 1k floats over Burnish, JSON of 1k floats, 16 connections"].measured == 1.5
    assert found["Burnish gRPC over MLServer gRPC, 16 connections"].measured == 2
    missed = [name for name, goal in found.items() if not goal.met]
    assert missed == [f"Burnish over MLServer REST, {connections} connections" for connections in (16, 32)]
    assert len(found) == 14


def test_the_cores_of_the_load_generator_are_counted_out() -> None:
    both = (lineup.BURNISH_2, 32), (lineup.BURNISH, 32)
    assert measured(RATES).ratio(*both).estimate == pytest.approx(4 / 3)
    assert measured(RATES).accounted(*both).estimate == pytest.approx(4 / 3 * 2 / 1.5)


def test_with_cores_to_spare_nothing_is_counted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    both = (lineup.BURNISH_2, 32), (lineup.BURNISH, 32)
    assert measured(RATES).accounted(*both).estimate == pytest.approx(4 / 3)


def test_what_is_not_measured_is_missed_with_the_reason() -> None:
    rates = {name: rate for name, rate in RATES.items() if name != lineup.LITSERVE} | {lineup.BENTOML: 0.0}
    found = {goal.name: goal for goal in goals(measured(rates), {lineup.LITSERVE: "litserve: no wheel"})}
    lost = found["Burnish over LitServe, 16 connections"]
    assert (lost.met, lost.detail) == (False, "not measured: litserve: no wheel")
    silent = found["Burnish over BentoML, 16 connections"]
    assert (silent.met, silent.detail) == (False, "not measured: no answers in some round")


def test_one_failed_request_is_one_too_many() -> None:
    last = goals(measured(RATES, drift=(1.0,), errors=1), {})[-1]
    assert last.name == "failed requests, all servers"
    assert last.measured == 2 * len(RATES)
    assert not last.met


def test_a_standing_counts_all_rounds() -> None:
    first = measured(RATES).standings()[0]
    assert (first.target, first.connections, first.requests) == (lineup.BURNISH, 16, 18000 + 9000 + 36000)
    assert first.rate.estimate == 9000
    assert first.rate_per_core == pytest.approx(10500)
