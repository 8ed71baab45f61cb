"""The optimization's configuration from a YAML or TOML file, as the fields that the control API takes."""

import tomllib
from pathlib import Path
from typing import Any

import yaml

from burnish.errors import InputError


def read_config(path: Path | None, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a file's fields with those overrides that are not None; the control API checks names and values.

    Raises:
        InputError: the file cannot be read or does not hold fields.
    """
    config = {} if path is None else _read(path)
    return config | {name: value for name, value in overrides.items() if value is not None}


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise InputError(f"the configuration {path} is neither YAML nor TOML: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError(f"the configuration {path} must hold fields, such as `policy: min_latency`")
    return found
