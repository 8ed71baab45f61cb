"""What the client returns: small frozen values, read from the JSON of the control API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float

    @classmethod
    def read(cls, found: Json) -> "Interval":
        """Read the record's JSON."""
        return cls(estimate=found["estimate"], low=found["low"], high=found["high"])


@dataclass(frozen=True)
class Rule:
    """What one gate rule found."""

    rule: str
    verdict: str
    reason: str
    figures: dict[str, float]

    @property
    def passed(self) -> bool:
        """True only for the verdict ``pass``; ``cannot tell`` does not pass."""
        return self.verdict == "pass"


def read_rules(gate: Json) -> tuple[Rule, ...]:
    """Read the outcomes of a gate decision's JSON."""
    return tuple(
        Rule(rule=found["rule"], verdict=found["verdict"], reason=found["reason"], figures=found["figures"])
        for found in gate["outcomes"]
    )


@dataclass(frozen=True)
class Optimization:
    """Where an optimization stands, and what came of it."""

    id: str
    model: str
    state: str
    stage: str
    message: str
    version: int | None
    rules: tuple[Rule, ...]
    candidates_done: int
    candidates_total: int
    report_url: str | None
    flow_run_state: str | None
    flow_run_url: str | None

    @property
    def finished(self) -> bool:
        """True when nothing more will change."""
        return self.state not in ("queued", "running", "cancelling")

    @property
    def released(self) -> bool:
        """True if its version is live."""
        return self.state == "released"

    @property
    def refused(self) -> bool:
        """True if the gate refused it; ``refusals`` says by which rules."""
        return self.state == "refused"

    @property
    def refusals(self) -> tuple[Rule, ...]:
        """The rules that did not pass."""
        return tuple(rule for rule in self.rules if not rule.passed)

    def __str__(self) -> str:
        """One line for people."""
        version = f" as version {self.version}" if self.version else ""
        rules = "; ".join(f"{rule.rule}: {rule.reason}" for rule in self.refusals)
        return " - ".join(filter(None, (f"{self.model} {self.state}{version}", rules or self.message)))

    @classmethod
    def read(cls, found: Json, base_url: str) -> "Optimization":
        """Read the API's view of an optimization."""
        status, run = found["status"], found.get("flow_run") or {}
        report = f"{base_url}/v1/optimizations/{status['id']}/report" if status["result"] else None
        return cls(
            id=status["id"],
            model=status["model"],
            state=status["state"],
            stage=status["stage"],
            message=status["message"],
            version=status["version"],
            rules=read_rules(status["gate"]),
            candidates_done=status["candidates_done"],
            candidates_total=status["candidates_total"],
            report_url=report,
            flow_run_state=run.get("state"),
            flow_run_url=run.get("url"),
        )


@dataclass(frozen=True)
class Candidate:
    """One candidate of an optimization with its figures."""

    label: str
    status: str
    baseline: bool
    chosen: bool
    reason: str
    latency_p50_ms: Interval | None
    score: Interval | None
    size_bytes: int | None
    rules: tuple[Rule, ...]

    @classmethod
    def read(cls, found: Json, winner: str | None) -> "Candidate":
        """Read a candidate's JSON in ``result.json``."""
        candidate, benchmark = found["candidate"], found["benchmark"]
        steps = " > ".join(_plugin(step) for step in candidate["recipe"]) or "source"
        return cls(
            label=f"{steps} @ {_plugin(candidate['runtime'])}",
            status=found["status"],
            baseline=found["baseline"],
            chosen=candidate["id"] == winner,
            reason=found["reason"],
            latency_p50_ms=Interval.read(benchmark["latency"][0]["latency_p50_ms"]) if benchmark else None,
            score=Interval.read(found["score"]) if found["score"] else None,
            size_bytes=found["artifact"]["size_bytes"] if found["artifact"] else None,
            rules=read_rules(found["gate"]),
        )


def _plugin(found: Json) -> str:
    knobs = ",".join(f"{name}={value}" for name, value in sorted(found["knobs"].items()))
    return f"{found['name']}({knobs})" if knobs else str(found["name"])


@dataclass(frozen=True)
class Version:
    """One version of a model; what only the registry knows is None while the registry is down."""

    number: int
    share: float
    artifact: str
    format: str
    size_bytes: int
    runtime: str
    recipe: tuple[str, ...] | None
    metrics: dict[str, Interval] | None
    created_at: str | None

    @classmethod
    def read(cls, found: Json) -> "Version":
        """Read the API's view of a version."""
        served, registered = found["served"], found["registered"]
        draft = registered["draft"] if registered else None
        return cls(
            number=found["version"],
            share=found["share"],
            artifact=served["artifact"]["sha256"],
            format=served["artifact"]["format"],
            size_bytes=served["artifact"]["size_bytes"],
            runtime=_plugin(served["runtime"]),
            recipe=tuple(_plugin(step) for step in draft["recipe"]) if draft else None,
            metrics={metric["name"]: Interval.read(metric["interval"]) for metric in draft["metrics"]}
            if draft
            else None,
            created_at=registered["created_at"] if registered else None,
        )


@dataclass(frozen=True)
class Model:
    """A model with its route; generation and champion are None while nothing is live."""

    name: str
    generation: int | None
    champion: int | None
    versions: tuple[int, ...]

    @classmethod
    def read(cls, found: Json) -> "Model":
        """Read the API's summary of a model."""
        route = found["route"] or {}
        return cls(found["name"], route.get("generation"), route.get("champion"), tuple(found["versions"]))


@dataclass(frozen=True)
class Versions:
    """The versions of a model, oldest first; ``registry_unavailable`` says why something is missing."""

    model: str
    generation: int | None
    champion: int | None
    versions: tuple[Version, ...]
    registry_unavailable: str | None


@dataclass(frozen=True)
class FlowRun:
    """A flow run that was started in Prefect."""

    id: str
    name: str
    state: str
    url: str

    @classmethod
    def read(cls, found: Json) -> "FlowRun":
        """Read the API's view of a run."""
        return cls(found["id"], found["name"], found["state"], found["url"])


@dataclass(frozen=True)
class DriftReport:
    """Captured requests beside the evaluation set of the version that answered them."""

    model: str
    version: int
    created_at: str
    samples: int
    columns: int
    share_drifted: float
    drifted: bool
    report_url: str

    @classmethod
    def read(cls, found: Json, base_url: str) -> "DriftReport":
        """Read a report's JSON."""
        return cls(
            model=found["model"],
            version=found["version"],
            created_at=found["created_at"],
            samples=found["samples"],
            columns=len(found["columns"]),
            share_drifted=found["share_drifted"],
            drifted=found["drifted"],
            report_url=f"{base_url}/v1/models/{found['model']}/drift/report",
        )


@dataclass(frozen=True)
class Status:
    """What the control API's reconciler found last."""

    models: int
    mirrors: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """The outputs by name, and what made them."""

    outputs: "dict[str, npt.NDArray[np.generic]]"
    model: str
    version: int
    artifact: str
    request_id: str
