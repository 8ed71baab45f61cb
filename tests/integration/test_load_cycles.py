"""A version that is loaded and unloaded again and again leaves nothing behind in its worker."""

import statistics

import httpx
import pytest

from registry.records.model import Datatype
from tests.integration.echo_engine import WIDTH, EchoEngine, name_of

MIB = 2**20
MODELS = ("log", name_of(Datatype.FP16), name_of(Datatype.BYTES))
LOOK_EVERY = 20
KEPT_PER_CYCLE_BYTES = 4 * 1024
"""An ONNX session of these nets takes some 300 KiB: what leaks a part of it is seen."""
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, WIDTH], "data": [1, 2, 3, 4]}]}


def cycle(rest: httpx.Client, model: str) -> None:
    for change in ("load", "unload"):
        reply = rest.post(f"/v2/repository/models/{model}/{change}")
        assert reply.status_code == 200, reply.text


def loads(rest: httpx.Client) -> int:
    """How many loads the worker has counted."""
    lines = rest.get("/metrics").text.splitlines()
    return int(
        float(next(line for line in lines if line.startswith("burnish_load_duration_seconds_count")).split()[-1])
    )


@pytest.mark.parametrize("cycles", [120, pytest.param(2_000, marks=pytest.mark.slow)])
def test_loading_and_unloading_keeps_no_memory(echo_engine: EchoEngine, cycles: int) -> None:
    with httpx.Client(base_url=echo_engine.url, timeout=60) as rest:
        for number in range(60):
            cycle(rest, MODELS[number % len(MODELS)])
        pid, counted, seen = rest.get("/burnish/catalog").json()["pid"], loads(rest), []
        for number in range(cycles):
            cycle(rest, MODELS[number % len(MODELS)])
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                seen.append(echo_engine.resident_bytes())
        assert (rest.get("/burnish/catalog").json()["pid"], loads(rest) - counted) == (pid, cycles)
        assert rest.post("/v2/models/log/infer", json=BODY).status_code == 200
    slope = statistics.linear_regression(range(0, cycles, LOOK_EVERY), seen).slope
    assert slope < KEPT_PER_CYCLE_BYTES, f"{slope:.0f} bytes are kept of every cycle: {[one // MIB for one in seen]}"
