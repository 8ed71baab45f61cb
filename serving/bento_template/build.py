"""Builds one Bento from a prepared folder. Run as a script, in a process of its own, by `serving.package`.

BentoML imports the service that it builds. This process has imported nothing of Burnish, so the service is imported
with the copies in the folder, as it will be where it serves.

Arguments: the folder (`service.py` and `bento.json` in it), and the folder that the built Bento goes below.
"""

import json
import sys
from pathlib import Path

import bentoml
from bentoml._internal.bento import BentoStore


def main(context: Path, store: Path) -> None:
    """Build what `bento.json` says."""
    store.mkdir(parents=True)
    plan = json.loads((context / "bento.json").read_text(encoding="utf-8"))
    bentoml.build(
        "service:Version",
        name=plan["name"],
        version=plan["version"],
        labels=plan["labels"],
        description=plan["description"],
        python={"packages": plan["requirements"], "lock_packages": False},
        build_ctx=str(context),
        _bento_store=BentoStore(store),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
