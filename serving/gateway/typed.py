"""Envoy's messages as JSON: the pieces that every part of the configuration is built from.

Source for every field: Envoy 1.40 v3 API reference.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_TYPES = "type.googleapis.com"


def message(kind: str, **fields: Any) -> Json:  # noqa: ANN401
    """Return a message that names its own type, as Envoy wants it wherever any message may stand."""
    return {"@type": f"{_TYPES}/{kind}", **fields}


def extension(name: str, kind: str, **fields: Any) -> Json:  # noqa: ANN401
    """Return an extension with its configuration."""
    return {"name": name, "typed_config": message(kind, **fields)}


def watched(folder: Path, name: str) -> Json:
    """Return the source of what stands in a file that Envoy reads again after each rename in its folder."""
    return {
        "path_config_source": {"path": str(folder / name), "watched_directory": {"path": str(folder)}},
        "resource_api_version": "V3",
    }


def discovery(resources: Iterable[Json]) -> Json:
    """Return the content of a watched file."""
    return {"resources": list(resources)}


def address(host: str, port: int) -> Json:
    """Return where something listens."""
    return {"socket_address": {"address": host, "port_value": port}}


def seconds(value: float) -> str:
    """Return a duration."""
    return f"{value:.3f}s"


def is_exactly(header: str, value: str) -> Json:
    """Return a matcher of a header that has one value."""
    return {"name": header, "string_match": {"exact": value}}


def set_header(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Json:
    """Return a mutation that gives a header a value; an empty value adds none."""
    return {"append": {"header": {"key": name, "value": value}, "append_action": action}}


def remove_header(name: str) -> Json:
    """Return a mutation that takes a header away."""
    return {"remove": name}
