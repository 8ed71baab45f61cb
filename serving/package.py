"""Makes a Bento of one model version: it serves alone, without Burnish installed.

The Bento holds the artifact, the version's record, and copies of the modules that loading and running it needs; it
requires the libraries that these modules import, in the versions that are installed here.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import serving
from registry.errors import RegistryError, TransientError
from registry.plugins import RUNTIMES, describe_plugin
from registry.records.model import ModelVersion
from registry.records.release import CatalogEntry
from serving.module_closure import closure, requirements
from serving.settings import bento_environment

_ROOT = Path(serving.__file__).parents[1]
_PACKAGES = ("serving", "registry")
_TEMPLATE = _ROOT / "serving" / "bento_template"
_SERVICE = "serving.bento_template.service"
_BUILD_TIMEOUT_S = 300.0
_LOG_LINES = 15
_BENTO_NAME_LENGTH = 63


def bento_tag(model: str, version: int) -> str:
    """Return the tag of a version's Bento: `<model>:v<version>`.

    A Bento's name has at most 63 characters and ends in a letter or a digit; a model's that does not is replaced by its
    start and its digest, joined with two dots, of which no qualified name holds more than one.
    """
    name = model
    if len(model) > _BENTO_NAME_LENGTH or not model[-1].isalnum():
        digest = hashlib.sha256(model.encode()).hexdigest()[:10]
        name = f"{model[: _BENTO_NAME_LENGTH - len(digest) - 2]}..{digest}"
    return f"{name}:v{version}"


def build_bento(version: ModelVersion, artifact_folder: Path, bento_home: Path) -> str:
    """Build the Bento of a version below a BENTOML_HOME and return its tag; building it again is a no-op.

    Raises:
        PluginNotFound: the version's runtime is not known here.
        RegistryError: BentoML could not build it; the message holds the end of its output.
        TransientError: it did not finish in time.
    """
    tag = bento_tag(version.model, version.version)
    name, _, number = tag.partition(":")
    home = bento_home / "bentos" / name
    entry = CatalogEntry(model=version.model, generation=0, split=None, versions=(version.served,))
    record = entry.model_dump_json(indent=1)
    with _locked(bento_home):
        if _record_of(home / number) == record:
            return tag
        with tempfile.TemporaryDirectory(dir=bento_home, prefix=".build-") as scratch:
            built = _build(Path(scratch), version, artifact_folder, record)
            _publish(built / name / number, home, number)
    return tag


def _record_of(bento: Path) -> str | None:
    path = bento / "src" / "version.json"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _build(scratch: Path, version: ModelVersion, artifact_folder: Path, record: str) -> Path:
    """Build in scratch; return the folder of the store that holds the Bento."""
    context, store = scratch / "context", scratch / "store"
    _fill(context, version, artifact_folder)
    (context / "version.json").write_text(record, encoding="utf-8")
    try:
        answer = subprocess.run(
            [sys.executable, "-P", str(_TEMPLATE / "build.py"), str(context), str(store)],
            env=bento_environment(scratch / "home"),
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"BentoML did not build {version.model} within {_BUILD_TIMEOUT_S:.0f} s") from error
    if answer.returncode != 0:
        end = "\n".join(answer.stdout.strip().splitlines()[-_LOG_LINES:])
        raise RegistryError(f"BentoML could not build version {version.version} of {version.model}:\n{end}")
    return store


def _fill(context: Path, version: ModelVersion, artifact_folder: Path) -> None:
    """Write everything that the Bento is built from, except the version's record."""
    runtime = describe_plugin(RUNTIMES, version.served.runtime.name).module
    modules = closure(_ROOT, _PACKAGES, (_SERVICE, runtime))
    for relative in modules.files:
        _copy(_ROOT / relative, context / relative)
    shutil.move(context / "serving" / "bento_template" / "service.py", context / "service.py")
    for path in sorted(artifact_folder.rglob("*")):
        if path.is_file():
            _copy(path, context / "artifact" / path.relative_to(artifact_folder))
    tag = bento_tag(version.model, version.version)
    plan = {
        "name": tag.partition(":")[0],
        "version": tag.partition(":")[2],
        "labels": {"model": version.model, "artifact": version.served.artifact.sha256},
        "description": f"Version {version.version} of the model {version.model}, served alone.",
        "requirements": requirements(modules.libraries),
    }
    (context / "bento.json").write_text(json.dumps(plan), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    """Copy bytes alone: an artifact's files are read-only, a Bento's can be removed again."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _publish(built: Path, home: Path, number: str) -> None:
    """Put a built Bento in its place by a rename, so that a half-built one is never seen."""
    home.mkdir(parents=True, exist_ok=True)
    if (home / number).exists():
        shutil.rmtree(home / number)
    built.rename(home / number)
    latest = home / "latest.new"
    latest.write_text(number, encoding="utf-8")
    latest.replace(home / "latest")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time build below a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
