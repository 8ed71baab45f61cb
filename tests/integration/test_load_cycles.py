"""A version that is loaded and unloaded again and again leaves nothing behind in its worker."""

import statistics
from itertools import pairwise

import httpx
import pytest

from registry.records.model import Datatype
from tests.integration.echo_engine import WIDTH, EchoEngine, held_bytes, name_of

KIB = 2**10
MODELS = ("log", name_of(Datatype.FP16), name_of(Datatype.BYTES))
LOOK_EVERY = 20
KEPT_PER_CYCLE_BYTES = 4 * KIB
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
        pid, counted = rest.get("/burnish/catalog").json()["pid"], loads(rest)
        seen = [held_bytes(pid)]
        for number in range(cycles):
            cycle(rest, MODELS[number % len(MODELS)])
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                seen.append(held_bytes(pid))
        assert (rest.get("/burnish/catalog").json()["pid"], loads(rest) - counted) == (pid, cycles)
        assert rest.post("/v2/models/log/infer", json=BODY).status_code == 200
    # What is kept of every cycle is seen at every look; what a worker takes once, at one or two of them.
    kept = statistics.median(after - before for before, after in pairwise(seen)) / LOOK_EVERY
    assert kept < KEPT_PER_CYCLE_BYTES, f"{kept:.0f} bytes are kept of every cycle: {[one // KIB for one in seen]} KiB"
