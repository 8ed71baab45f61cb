"""What the client tells of an answer's origin: frozen values, read from the JSON of the control API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.replies import Rule, read_rules

Json = Mapping[str, Any]


@dataclass(frozen=True)
class ReleaseStep:
    """One change of a model's route: who made which version the champion, when and why."""

    generation: int
    action: str
    champion: int
    previous: int | None
    actor: str
    reason: str
    at: str

    @classmethod
    def read(cls, found: Json) -> "ReleaseStep":
        """Read the event's JSON."""
        return cls(**{name: found[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Registered:
    """What the registry holds of a version: how it was made, and what it was judged by."""

    created_at: str
    optimization_id: str
    recipe: tuple[str, ...]
    """The passes with their knobs, in order; empty: the source itself."""
    rules: tuple[Rule, ...]
    source: str
    evaluation_set: str
    calibration_set: str | None
    parent_version: int | None
    """The champion it was gated against."""
    report: str
    report_url: str
    tool_versions: dict[str, str]

    @classmethod
    def read(cls, found: Json, base_url: str) -> "Registered":
        """Read a registered version's JSON."""
        draft = found["draft"]
        return cls(
            created_at=found["created_at"],
            optimization_id=draft["optimization_id"],
            recipe=tuple(_plugin(step) for step in draft["recipe"]),
            rules=read_rules(draft["gate"]),
            source=draft["source"]["sha256"],
            evaluation_set=draft["evaluation_set"],
            calibration_set=draft["calibration_set"],
            parent_version=draft["parent_version"],
            report=draft["report"],
            report_url=f"{base_url}/v1/optimizations/{draft['optimization_id']}/report",
            tool_versions=dict(draft["tool_versions"]),
        )


@dataclass(frozen=True)
class Origin:
    """One version: what serves, what it was made from, and every release that it was in."""

    model: str
    version: int
    artifact: str
    format: str
    size_bytes: int
    runtime: str
    share: float
    """Percent of the model's traffic now."""
    registered: Registered | None
    registry_unavailable: str | None
    releases: tuple[ReleaseStep, ...]

    @classmethod
    def read(cls, found: Json, base_url: str) -> "Origin":
        """Read a version's lineage."""
        served = found["served"]
        return cls(
            model=found["model"],
            version=served["version"],
            artifact=served["artifact"]["sha256"],
            format=served["artifact"]["format"],
            size_bytes=served["artifact"]["size_bytes"],
            runtime=_plugin(served["runtime"]),
            share=found["share"],
            registered=Registered.read(found["registered"], base_url) if found["registered"] else None,
            registry_unavailable=found["registry_unavailable"],
            releases=tuple(ReleaseStep.read(event) for event in found["releases"]),
        )


@dataclass(frozen=True)
class AnsweredRequest:
    """A captured request."""

    request_id: str
    at: str
    samples: int
    file: str
    in_force: ReleaseStep | None
    """The last change of the model's route before the request was answered."""
    labels: tuple[float, ...] | None
    """The true answers that came as feedback; None: none came."""
    score: float | None = None
    """The score of the answer that came as feedback; None: none came."""


@dataclass(frozen=True)
class Explanation:
    """What answered a request, or what an artifact is: one version, or several of the same bytes."""

    request: AnsweredRequest | None
    origins: tuple[Origin, ...]

    @classmethod
    def read(cls, found: Json, base_url: str) -> "Explanation":
        """Read the API's explanation."""
        request = found["request"]
        answered = request and AnsweredRequest(
            request_id=request["request_id"],
            at=request["at"],
            samples=request["samples"],
            file=request["file"],
            in_force=ReleaseStep.read(found["in_force"]) if found["in_force"] else None,
            labels=tuple(found["feedback"]["labels"]) or None if found["feedback"] else None,
            score=found["feedback"]["score"] if found["feedback"] else None,
        )
        return cls(answered, tuple(Origin.read(version, base_url) for version in found["versions"]))


def _plugin(found: Json) -> str:
    """A plug-in with all its knobs, lists written out: this is where one looks them up."""
    knobs = ",".join(f"{name}={_value(value)}" for name, value in sorted(found["knobs"].items()))
    return f"{found['name']}({knobs})" if knobs else str(found["name"])


def _value(value: object) -> str:
    return f"[{' '.join(map(str, value))}]" if isinstance(value, list) else str(value)
