"""A real engine, watched: every worker's metrics, JSON on every line of its log, spans at a real OTLP collector."""

import json
import re
from pathlib import Path

import httpx
import pytest

from registry.records.release import CatalogEntry, TrafficSplit
from registry.store.artifacts_local import LocalArtifacts
from serving.engine.catalog import write_entry
from serving.engine.metrics import FAMILIES
from tests.integration.processes import free_pair, free_ports
from tests.integration.test_engine_process import BODY, ready, start, stop, store_version, until
from tests.unit.serving.doors.collector import attributes, open_collector

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_metrics_logs_and_traces_of_a_real_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = store_version(LocalArtifacts(tmp_path / "artifacts"), tmp_path / "net", 1)
    split = TrafficSplit(weights={1: 100})
    write_entry(tmp_path / "catalog", CatalogEntry(model="m", generation=1, split=split, versions=(version,)))
    with open_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        bento_port, door_port = free_ports(1)[0], free_pair()
        doors = [f"http://127.0.0.1:{door_port + 10 * worker}" for worker in range(2)]
        process = start(tmp_path, bento_port, door_port)
        try:
            until(lambda: all(map(ready, doors)), "both workers are ready")
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "id-1"}
            for worker, door in enumerate(doors):
                reply = httpx.post(f"{door}/v2/models/m/infer", json=BODY, headers=headers)
                assert (reply.status_code, reply.headers["traceparent"][3:35]) == (200, TRACE)
                assert httpx.post(f"{door}/v2/models/none/infer", json=BODY, headers=headers).status_code == 404
                text = httpx.get(f"{door}/metrics").text
                assert {family.name for family in FAMILIES} <= set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
                assert (
                    f'nv_inference_request_success{{model="m",version="1",tenant="default",worker="{worker}"}} 1\n'
                    in text
                )
            until(lambda: len(collector.spans) == 4, "all spans arrived")
        finally:
            stop(process)
    found = [attributes(span) for span in collector.spans]
    assert sorted(one["burnish.status"] for one in found) == ["200", "200", "404", "404"]
    assert {one.get("burnish.artifact") for one in found} == {version.artifact.sha256, None}
    lines = [line for line in (tmp_path / "engine.log").read_text().splitlines() if '"logger":"serving.' in line]
    failed = [line for line in map(json.loads, lines) if "failed" in line["message"]]
    assert [(line["request_id"], line["status"], line["trace_id"]) for line in failed] == [("id-1", "404", TRACE)] * 2
