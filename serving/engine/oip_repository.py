"""The repository and statistics extensions over REST: JSON in and out.

Source: https://github.com/triton-inference-server/server, docs/protocol/extension_model_repository.md and
extension_statistics.md.
"""

from collections.abc import Iterable

import orjson

from registry.errors import InputError
from serving.engine.repository import IndexEntry, VersionStatistics
from serving.engine.statistics import Duration


def parse_index(body: bytes) -> bool:
    """Return whether only versions that can answer are asked for; an empty body asks for all.

    Raises:
        InputError: the body is not an object with a true or false ``ready``.
    """
    if not body:
        return False
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON: {error}") from error
    ready = document.get("ready", False) if type(document) is dict else None
    if type(ready) is not bool:
        raise InputError("the body: expected an object, with ready true or false")
    return ready


def encode_index(entries: Iterable[IndexEntry]) -> bytes:
    """Write the list of versions."""
    return orjson.dumps(
        [
            {"name": entry.model, "version": str(entry.version), "state": entry.state, "reason": entry.reason}
            for entry in entries
        ]
    )


def encode_statistics(all_: Iterable[VersionStatistics]) -> bytes:
    """Write counters; the time to read inputs and to write outputs is not told apart and stays 0."""
    return orjson.dumps({"model_stats": [_statistics(one) for one in all_]})


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
