"""A model that hangs or crashes takes down its worker only: it is replaced, and the other serves on."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry.records.model import PluginConfig
from tests.integration.load import infer_body
from tests.integration.odd_runtime import CRASH, HANG
from tests.integration.workers import Workers, two_workers, until

QUICK = PluginConfig(name="odd_runtime")
SLOW = PluginConfig(name="odd_runtime", knobs={"run_ms": 5})


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    settings = {
        "BURNISH_ENGINE_STALL_SECONDS": "10",
        "BURNISH_ENGINE_RUN_SECONDS": "10",
        "BURNISH_ENGINE_DRAIN_SECONDS": "10",
    }
    with two_workers(tmp_path_factory.mktemp("engine"), settings) as running:
        running.publish("good", 1, 1)
        running.publish("quick", 1, 1, runtime=QUICK)
        running.publish("slow", 1, 2, runtime=SLOW)
        names = ("good", "quick", "slow")
        until(lambda: all(running.generations(name) == [1, 1] for name in names), "all models are known")
        yield running


def ask(workers: Workers, worker: int, model: str, value: float = 1) -> int:
    """The status of an answer; 0 if there is none."""
    try:
        url = f"{workers.doors[worker]}/v2/models/{model}/infer"
        return httpx.post(url, content=infer_body([value, 2]), timeout=60).status_code
    except httpx.TransportError:
        return 0


def test_a_version_that_crashes_workers_is_kept_unloaded_and_the_others_serve_on(workers: Workers) -> None:
    for _ in range(2):
        pid = workers.pid(0)
        assert ask(workers, 0, "quick") == 200
        assert ask(workers, 0, "quick", CRASH) == 0
        assert [ask(workers, 1, model) for model in ("good", "quick", "slow")] == [200] * 3
        workers.await_replacement(0, pid)
    until(lambda: ask(workers, 0, "good") == 200, "the new worker answers")
    url = f"{workers.doors[0]}/v2/models/quick/infer"
    refused = httpx.post(url, content=infer_body([1, 2]), timeout=60)
    assert refused.status_code == 503
    assert "it has ended 2 workers (crash: Segmentation fault)" in refused.json()["error"]
    assert "it has ended 2 workers" in workers.status(0)["models"]["quick"]["error"]
    assert ask(workers, 0, "slow") == 200, "another version on the same runtime is not refused"
    deaths = json.loads((workers.home / "engine" / "deaths.json").read_text())
    assert [entry["count"] for entry in deaths.values()] == [2], "nobody else is blamed"


def test_a_retried_request_that_has_just_ended_a_worker_does_not_end_another(workers: Workers) -> None:
    pids = [workers.pid(0), workers.pid(1)]
    assert ask(workers, 0, "slow", CRASH) == 0
    url = f"{workers.doors[1]}/v2/models/slow/infer"
    retried = httpx.post(url, content=infer_body([CRASH, 2]), headers={"x-envoy-attempt-count": "2"}, timeout=60)
    assert retried.status_code == 503
    assert "has just ended another worker" in retried.json()["error"]
    assert workers.pid(1) == pids[1]
    workers.await_replacement(0, pids[0])


@pytest.mark.slow
def test_a_worker_with_a_run_that_hangs_falls_out_of_readiness_and_is_replaced(workers: Workers) -> None:
    pid = workers.pid(0)
    hung = threading.Thread(target=ask, args=(workers, 0, "slow", HANG))
    hung.start()
    until(lambda: not workers.ready(0), "readiness falls")
    assert ask(workers, 0, "good") == 200, "it still answers what comes before the gateway has taken it out"
    while workers.status(0).get("pid") == pid:
        assert ask(workers, 1, "good") == 200
        time.sleep(0.05)
    workers.await_replacement(0, pid)
    hung.join(60)
    assert ask(workers, 0, "good") == 200


@pytest.mark.slow
def test_a_worker_whose_loop_stands_still_is_ended_and_replaced(workers: Workers) -> None:
    pid = workers.pid(1)
    other = PluginConfig(name="odd_runtime", knobs={"threads": 2})
    workers.publish("stalling", 1, 3, runtime=other)
    until(lambda: workers.generations("stalling") == [1, 1], "the model is known")
    assert ask(workers, 1, "stalling") == 200
    assert ask(workers, 1, "stalling", HANG) == 0
    assert ask(workers, 0, "good") == 200
    workers.await_replacement(1, pid)
    assert ask(workers, 1, "good") == 200
    text = Path(workers.home / "engine.log").read_text()
    assert "the worker before this one ended by itself" in text
