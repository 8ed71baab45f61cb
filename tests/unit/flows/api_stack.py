"""A platform without servers: real ledger and artifacts in a folder, Prefect and doors answered in the process."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from flows.api_platform import Platform
from flows.api_prefect import Deployments
from flows.api_reconciler import Reconciler
from flows.settings import StackSettings
from flows.tenants import KeyRing
from flows.workers import Workers
from registry.errors import TransientError
from registry.ledger.ledger import Ledger
from registry.records.benchmark import Environment, Interval, Metric
from registry.records.gate import GateDecision, RuleOutcome, Verdict
from registry.records.model import (
    ArtifactFormat,
    ArtifactRef,
    Datatype,
    ModelVersion,
    PluginConfig,
    Signature,
    TensorSpec,
    VersionDraft,
)
from registry.store.artifacts_local import LocalArtifacts
from registry.store.memory import MemoryStore
from serving.engine.catalog import read_entry

READY = 'burnish_ready{worker="%d"} 1'


@dataclass
class FakePrefect:
    """What Prefect's HTTP API does for the five calls that are made of it."""

    down: bool = False
    stalled: bool = False
    """It does what it is asked, and nobody waits for its answer any more."""
    refusal: int | None = None
    deployments: tuple[str, ...] = ("optimize", "monitor", "retrain")
    runs: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("connection refused", request=request)
        parts = request.url.path.split("/")
        if parts[:4] == ["", "api", "deployments", "name"]:
            known = parts[4] == parts[5] and parts[4] in self.deployments
            return httpx.Response(200, json={"id": parts[4]}) if known else httpx.Response(404, json={})
        body = json.loads(request.content)
        if parts[-1] == "set_state":
            return self._set_state(parts[3], body["state"]["type"])
        if parts[-1] == "create_flow_run":
            return self._create(parts[3], body)
        assert request.url.path == "/api/flow_runs/filter"
        return httpx.Response(200, json=[run for run in self.runs if _matches(run, body["flow_runs"])])

    def end(self, name: str) -> None:
        for run in self.runs:
            run |= {"state_name": name.title(), "state_type": name}

    def _set_state(self, run_id: str, wanted: str) -> httpx.Response:
        (run,) = (run for run in self.runs if run["id"] == run_id)
        begun = {"RUNNING": wanted, "SCHEDULED": "CANCELLED"}  # there is nothing to stop of what has not begun
        run["state_type"] = begun.get(run["state_type"], run["state_type"])
        run["state_name"] = run["state_type"].title()
        return httpx.Response(201, json={"status": "ACCEPT", "state": {"type": run["state_type"]}})

    def _create(self, deployment: str, body: dict[str, Any]) -> httpx.Response:
        if self.refusal:
            return httpx.Response(self.refusal, json={"detail": "no such enum value"})
        run = {"id": f"run-{len(self.runs)}", "name": "quick-fox", "state_name": "Scheduled", "state_type": "SCHEDULED"}
        self.runs.append({**run, "deployment": deployment, **body})
        if self.stalled:
            raise httpx.ReadTimeout("timed out")
        return httpx.Response(201, json=run)


def _matches(run: dict[str, Any], wanted: dict[str, Any]) -> bool:
    assert wanted["operator"] == "or_"
    by_id = run["id"] in wanted.get("id", {"any_": []})["any_"]
    return by_id or run["idempotency_key"] in wanted["idempotency_key"]["any_"]


@dataclass
class FakeDoors:
    """Workers that follow the catalog folder at once; those in ``stuck`` do not."""

    catalog: Path
    stuck: set[int] = field(default_factory=set)

    def answer(self, request: httpx.Request) -> httpx.Response:
        worker = ((request.url.port or 0) - 8100) // 10
        if worker in self.stuck:
            raise httpx.ConnectError("connection refused", request=request)
        if request.url.path == "/metrics":
            return httpx.Response(200, text=f"# HELP burnish_ready x\n# TYPE burnish_ready gauge\n{READY % worker}\n")
        if request.url.path == "/burnish/catalog":
            return httpx.Response(200, json={"worker": worker, "capture": {"dropped": 3 + worker}})
        file = self.catalog / f"{request.url.path.removeprefix('/burnish/catalog/')}.json"
        if not file.is_file():
            return httpx.Response(404, json={"error": "there is no such model"})
        return httpx.Response(200, json={"generation": read_entry(file).generation})


class OutageStore(MemoryStore):
    """A model store that can be taken down."""

    down = False

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        self._check()
        return super().versions(model)

    def version(self, model: str, number: int) -> ModelVersion:
        self._check()
        return super().version(model, number)

    def models(self) -> tuple[str, ...]:
        self._check()
        return super().models()

    def alias(self, model: str, alias: str) -> int | None:
        self._check()
        return super().alias(model, alias)

    def _check(self) -> None:
        if self.down:
            raise TransientError("MLflow does not answer")


@dataclass(frozen=True)
class FakeStack:
    """A platform with the handles that tests pull."""

    platform: Platform
    prefect: FakePrefect
    doors: FakeDoors
    store: OutageStore

    def register(self, model: str = "digits", *, admit: bool = True) -> ModelVersion:
        """Register the next version of a model, and admit it to the ledger."""
        count = len(MemoryStore.versions(self.store, model))
        version = self.store.register(draft(model, f"{count:032x}"))
        if admit:
            self.platform.ledger.admit(model, version.served)
        return version


def fake_stack(home: Path, **changes: object) -> FakeStack:
    """Build a platform in a folder, with other settings than the defaults; its reconciler does not run yet."""
    settings = StackSettings.model_validate({"home": home, **changes})
    ledger = Ledger(settings.ledger_database)
    ledger.migrate()
    store = OutageStore()
    prefect, doors = FakePrefect(), FakeDoors(settings.catalog_folder)
    prefect_http = httpx.Client(transport=httpx.MockTransport(prefect.answer), base_url=settings.prefect_url)
    doors_http = httpx.Client(transport=httpx.MockTransport(doors.answer))
    deployments = Deployments(prefect_http)
    urls = [settings.door_url(worker) for worker in range(settings.workers)]
    platform = Platform(
        settings=settings,
        artifacts=LocalArtifacts(settings.artifacts_folder),
        ledger=ledger,
        store=store,
        deployments=deployments,
        workers=Workers(doors_http, urls, wait_s=0.2),
        reconciler=Reconciler(ledger, store, deployments, settings.catalog_folder),
        key_ring=KeyRing(ledger, settings.gateway_folder, require_keys=settings.require_keys),
    )
    return FakeStack(platform, prefect, doors, store)


def draft(model: str, optimization_id: str) -> VersionDraft:
    """A version that passed its gate."""
    artifact = ArtifactRef(sha256="a" * 64, format=ArtifactFormat.ONNX, size_bytes=2048)
    batch = TensorSpec(name="x", datatype=Datatype.FP32, shape=(None, 2))
    latency = Metric(name="latency_p50_ms", interval=Interval(estimate=0.1, low=0.09, high=0.12))
    return VersionDraft(
        model=model,
        optimization_id=optimization_id,
        source=artifact,
        artifact=artifact,
        runtime=PluginConfig(name="onnxruntime", knobs={"threads": 1}),
        signature=Signature(inputs=(batch,), outputs=(batch.model_copy(update={"name": "y"}),)),
        recipe=(PluginConfig(name="export_onnx"),),
        batch_invariant=True,
        tool_versions={},
        environment=Environment(
            cpu_model="any", cpu_count=1, cpu_flags=(), memory_mib=1, system="any", python="3.11", libraries={}
        ),
        metrics=(latency,),
        gate=GateDecision(outcomes=(RuleOutcome(rule="fidelity", verdict=Verdict.PASS, reason="equal"),)),
        evaluation_set="e" * 64,
        report="f" * 64,
    )
