"""The environment of the servers that the benchmark starts."""

import os
from collections.abc import Mapping

_OURS = ("BURNISH_", "BENTOML_", "MLSERVER_", "PYTHON", "VIRTUAL_ENV")


def server_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would set up a server, and the variables given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**kept, **variables}
