"""The repository and statistics extensions over REST: JSON in and out.

Source: https://github.com/triton-inference-server/server, docs/protocol/extension_model_repository.md and
extension_statistics.md.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from registry.errors import InputError
from serving.engine.repository import IndexEntry, VersionStatistics
from serving.engine.slices import json_list
from serving.engine.statistics import Duration


def parse_index(body: bytes) -> bool:
    """Return whether only versions that can answer are asked for; an empty body asks for all.

    Raises:
        InputError: the body is not an object, or its ``ready`` is neither true nor false.
    """
    ready = _object(body).get("ready", False)
    if type(ready) is not bool:
        raise InputError(f"ready: expected true or false, got {ready!r:.40}")
    return ready


def check_load(body: bytes) -> None:
    """Check the body of a load; what a model is made of is settled by its catalog entry.

    Raises:
        InputError: the body is not an object, or brings a configuration or files of its own.
    """
    refuse_override(_parameters(body))


def check_unload(body: bytes) -> None:
    """Check the body of an unload, whose parameters say nothing here.

    Raises:
        InputError: the body is not an object.
    """
    _parameters(body)


def refuse_override(parameters: Iterable[str]) -> None:
    """Refuse parameters of a load that bring a configuration or files; others are ignored.

    Raises:
        InputError: one does.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise InputError(f"parameters.{name:.80}: not offered here; release a version instead")


def _parameters(body: bytes) -> dict[str, Any]:
    parameters = _object(body).get("parameters") or {}
    if type(parameters) is not dict:
        raise InputError("parameters: expected an object")
    return parameters


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON: {error}") from error
    if type(document) is not dict:
        raise InputError("the body: expected an object")
    return document


async def encode_index(entries: Iterable[IndexEntry]) -> bytes:
    """Write the list of versions."""
    return await json_list(
        {"name": entry.model, "version": str(entry.version), "state": entry.state, "reason": entry.reason}
        for entry in entries
    )


async def encode_statistics(all_: Iterable[VersionStatistics]) -> bytes:
    """Write counters; the time to read inputs and to write outputs is not told apart and stays 0."""
    return b'{"model_stats":%s}' % await json_list(map(_statistics, all_))


def _statistics(one: VersionStatistics) -> dict[str, object]:
    counted = one.statistics
    return {
        "name": one.model,
        "version": str(one.version),
        "last_inference": counted.last_inference_ms,
        "inference_count": counted.inferences,
        "execution_count": counted.executions,
        "inference_stats": {
            "success": _duration(counted.success),
            "fail": _duration(counted.fail),
            "queue": _duration(counted.queue),
            "compute_input": _duration(Duration()),
            "compute_infer": _duration(counted.compute),
            "compute_output": _duration(Duration()),
            "cache_hit": _duration(counted.cache_hit),
            "cache_miss": _duration(counted.cache_miss),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(Duration()),
                "compute_infer": _duration(batch),
                "compute_output": _duration(Duration()),
            }
            for size, batch in sorted(counted.batches.items())
        ],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
