"""Metrics of all workers in one place: families stand together, samples stay apart, a worker that is down is told."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from flows.api_app import build_app
from flows.api_metrics import merge
from registry.records.tenant import Quotas
from tests.unit.flows.api_stack import fake_stack


def scrape(worker: int, value: int) -> str:
    return (
        f'# HELP a_total First.\n# TYPE a_total counter\na_total{{worker="{worker}"}} {value}\n'
        f'# HELP b Second, # and more.\n# TYPE b gauge\nb{{worker="{worker}"}} 1\n'
    )


def test_lines_of_one_family_stand_together() -> None:
    assert merge([scrape(0, 3), None, scrape(2, 4)]).splitlines() == [
        "# HELP burnish_worker_up 1 if the worker told its metrics.",
        "# TYPE burnish_worker_up gauge",
        'burnish_worker_up{worker="0"} 1',
        'burnish_worker_up{worker="1"} 0',
        'burnish_worker_up{worker="2"} 1',
        "# HELP a_total First.",
        "# TYPE a_total counter",
        'a_total{worker="0"} 3',
        'a_total{worker="2"} 4',
        "# HELP b Second, # and more.",
        "# TYPE b gauge",
        'b{worker="0"} 1',
        'b{worker="2"} 1',
    ]


def test_a_tenant_is_told_of_its_own_models_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(tenant: str, model: str = "m") -> str:
        return f'nv_inference_count{{model="{model}",version="1",tenant="{tenant}",worker="0"}} 3'

    samples = [told("acme"), told("acme-two"), told("default"), told("_other", "_other")]
    text = "\n".join(["# HELP nv_inference_count Some.", "# TYPE nv_inference_count counter", *samples, ""])
    stack = fake_stack(tmp_path)
    stack.platform.ledger.tenants.add("acme", Quotas())
    stack.platform.ledger.tenants.add("quiet", Quotas())
    monkeypatch.setattr(stack.platform.workers, "metrics", lambda: (text + scrape(0, 7), None))
    up = [
        "# HELP burnish_worker_up 1 if the worker told its metrics.",
        "# TYPE burnish_worker_up gauge",
        'burnish_worker_up{worker="0"} 1',
        'burnish_worker_up{worker="1"} 0',
    ]
    with TestClient(build_app(stack.platform)) as api:
        own = api.get("/v1/metrics", params={"tenant": "acme"})
        assert api.get("/v1/metrics", params={"tenant": "quiet"}).text.splitlines() == up
    assert own.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert own.text.splitlines() == [
        *up,
        "# HELP nv_inference_count Some.",
        "# TYPE nv_inference_count counter",
        'nv_inference_count{model="m",version="1",worker="0"} 3',
    ]


def test_the_control_api_tells_the_metrics_of_every_worker(tmp_path: Path) -> None:
    stack = fake_stack(tmp_path)
    stack.doors.stuck = {1}
    with TestClient(build_app(stack.platform)) as api:
        reply = api.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {metric.name: metric for metric in text_string_to_metric_families(reply.text)}
    assert [sample.value for sample in found["burnish_worker_up"].samples] == [1, 0]
    assert [sample.labels["worker"] for sample in found["burnish_ready"].samples] == ["0"]
