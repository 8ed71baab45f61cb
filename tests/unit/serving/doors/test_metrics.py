"""Metrics over a real socket: what a scrape holds, in the form that Prometheus reads."""

import re
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from serving.engine.exposition import CONTENT_TYPE
from serving.engine.metrics import FAMILIES
from serving.engine.worker import Worker
from tests.unit.serving.doors.rest_client import INFER, body, open_door
from tests.unit.serving.engine.doubles import FakeWorld, run, served

OPERATE = Path(__file__).parents[4] / "docs" / "operate.md"


async def scrape(client: httpx.AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by exact name and labels; the library's parser, which renames counters, only says if it can read them."""
    reply = await client.get("/metrics")
    assert (reply.status_code, reply.headers["content-type"]) == (200, CONTENT_TYPE.decode())
    samples = re.findall(r"^([a-z_]+)\{(.*)\} (\S+)$", reply.text, re.MULTILINE)
    assert len(samples) == sum(len(metric.samples) for metric in text_string_to_metric_families(reply.text))
    return {(name, frozenset(re.findall(r'(\w+)="([^"]*)"', own))): float(value) for name, own, value in samples}


def labels(**given: str) -> frozenset[tuple[str, str]]:
    tenant = {"tenant": "default"} if "model" in given else {}
    return frozenset({"worker": "0", **tenant, **given}.items())


def test_a_scrape_holds_every_family_and_docs_and_exporter_name_the_same(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            await client.post(INFER, json=body())
            text = (await client.get("/metrics")).text
        scraped = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        own = {name: kind for name, kind in scraped.items() if name.startswith(("nv_", "burnish_"))}
        assert own == {family.name: family.kind for family in FAMILIES}
        documented = dict(re.findall(r"^\| `((?:nv|burnish)_\w+)` \| (\w+) ", OPERATE.read_text(), re.MULTILINE))
        assert documented == own
        assert {"process_resident_memory_bytes", "process_cpu_seconds_total"} <= set(scraped)

    run(work())


def test_answers_are_counted_under_the_names_that_dashboards_know(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            for _ in range(3):
                await client.post(INFER, json=body())
            await client.post("/v2/models/m/versions/2/infer", json=body())
            found = await scrape(client)
        one, two = labels(model="m", version="1"), labels(model="m", version="2")
        assert (found["nv_inference_request_success", one], found["nv_inference_request_success", two]) == (3, 1)
        assert found["nv_inference_count", one] == found["nv_inference_exec_count", one] == 3
        assert found["nv_inference_request_failure", labels(model="m", version="1", reason="BACKEND")] == 0
        top = labels(model="m", version="1", le="+Inf")
        assert found["burnish_request_duration_seconds_bucket", top] == 3
        assert found["burnish_request_duration_seconds_count", one] == 3
        assert found["burnish_batch_size_bucket", labels(model="m", version="1", le="1")] == 3
        assert found["burnish_batch_size_sum", one] == 3
        assert found["burnish_catalog_generation", labels(model="m")] == 1
        assert (
            found["burnish_load_duration_seconds_count", labels()] == found["burnish_resident_versions", labels()] == 2
        )
        assert found["burnish_resident_bytes", labels()] == 2 * 2**20
        assert not any(("model", "quiet") in of for _, of in found)

    run(work())


def test_failures_are_counted_by_reason(worker: Worker, world: FakeWorld) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            await client.post(INFER, json=body())
            session = world.sessions[served(1).artifact.sha256]
            session.broken = True
            assert (await client.post(INFER, json=body())).status_code == 500
            found = await scrape(client)
        failed = {
            reason: found["nv_inference_request_failure", labels(model="m", version="1", reason=reason)]
            for reason in ("BACKEND", "REJECTED", "CANCELED")
        }
        assert failed == {"BACKEND": 1, "REJECTED": 0, "CANCELED": 0}

    run(work())


def test_what_a_door_refuses_is_counted_by_its_status(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            for path in (INFER, INFER, "/v2/models/m/ready"):
                await client.post(path, content=b"no JSON")
            await client.post("/v2/models/none/infer", json=body())
            await client.post(INFER, content=b"x" * 20_000)
            found = await scrape(client)
        refused = {
            dict(of)["status"]: value for (name, of), value in found.items() if name == "burnish_failed_requests_total"
        }
        assert refused == {"400": 2, "404": 1, "405": 1, "413": 1}

    run(work())


def test_versions_beyond_the_limit_share_one_series(worker: Worker) -> None:
    worker.metrics_versions = 1

    async def work() -> None:
        async with open_door(worker) as client:
            for _ in range(2):
                await client.post(INFER, json=body())
            await client.post("/v2/models/m/versions/2/infer", json=body())
            found = await scrape(client)
        named = {of for name, of in found if name == "nv_inference_request_success"}
        assert named == {labels(model="m", version="1"), labels(model="_other", version="_other", tenant="_other")}
        assert found["nv_inference_request_success", labels(model="_other", version="_other", tenant="_other")] == 1

    run(work())
