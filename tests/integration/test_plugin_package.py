"""Plug-ins of separately installed packages: listed, held to the contracts, searched with; broken ones are left out."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.records.optimization import CandidateStatus, OptimizationResult
from tests.integration.test_optimize_alone import samples, two_layers

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests/plugin_package"
BURNISH = Path(sys.executable).parent / "burnish"

PLUGINS = ("store_float16", "onnx_numpy", "fuse_operators", "onnx_reference")
_CLASS = "\n\nclass {name}({base}):\n    pass\n"
BROKEN = {
    "unreadable": "def unreadable(:\n",
    "stumbling": "raise KeyError('CUDA_HOME')\n",
    "lacking": "import no_such_library\n",
    "foreign": "from pydantic import BaseModel" + _CLASS.format(name="Foreign", base="BaseModel"),
    "double": "from tasks.optimizer.base import Pass"
    + "".join(_CLASS.format(name=name, base="Pass") for name in ("First", "Second")),
    "hollow": "from tasks.optimizer.base import Pass" + _CLASS.format(name="Hollow", base="Pass"),
    "ending": "import os\nprint('hello')\nos._exit(3)\n",
    "export_onnx": "raise KeyError('this must never be imported')\n",
}
TOLD = {
    "unreadable": "invalid syntax",
    "stumbling": "KeyError: 'CUDA_HOME'",
    "lacking": "pip install no_such_library",
    "foreign": "exactly one Pass to be a pass; it defines 0",
    "double": "exactly one Pass to be a pass; it defines 2",
    "hollow": "does not set consumes, produces, stage",
}


def write_documented_package(folder: Path) -> Path:
    """The package that the docs tell a reader to write, with the pass and the runtime that they show."""
    (folder / "my_package").mkdir(parents=True)
    (folder / "my_package" / "__init__.py").touch()
    texts = {}
    for name, page in (("fuse_operators", "write-a-pass.md"), ("onnx_reference", "write-a-runtime.md")):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        source, project = (
            re.search(r"```python\n(.*?)```", text, re.DOTALL),
            re.search(r"```toml\n(.*?)```", text, re.DOTALL),
        )
        assert source
        assert project
        (folder / "my_package" / f"{name}.py").write_text(source[1], encoding="utf-8")
        texts[page] = project[1]
    whole = texts["write-a-pass.md"].replace("[tool.setuptools]", texts["write-a-runtime.md"] + "\n[tool.setuptools]")
    (folder / "pyproject.toml").write_text(whole, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages: the example and the docs' own, built by pip, and a broken one."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "package"  # a build leaves files beside the sources
    shutil.copytree(PACKAGE, source)
    documented = write_documented_package(tmp_path_factory.mktemp("documented"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(folder), str(source), str(documented)], timeout=300, check=True)
    info = folder / "broken-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    points = "\n".join(f"{name} = broken_{name}" for name in BROKEN)
    (info / "entry_points.txt").write_text(f"[burnish.passes]\n{points}\ngone = broken_gone\n")
    for name, text in BROKEN.items():
        (folder / f"broken_{name}.py").write_text(f'"""A pass."""\n{text}')
    return folder


def run(site: Path, *command: object, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command that finds the packages as it finds any that are installed."""
    environment = os.environ | {"PYTHONPATH": str(site), "BURNISH_HOME": str(cwd / "home")}
    arguments = [str(part) for part in command]
    return subprocess.run(
        arguments, env=environment, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


def listed(site: Path, command: str, tmp_path: Path) -> dict[str, Any]:
    done = run(site, BURNISH, command, "list", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return {plugin["name"]: plugin for plugin in json.loads(done.stdout)}


def test_they_are_listed_with_the_package_that_they_came_with(site: Path, tmp_path: Path) -> None:
    passes = listed(site, "passes", tmp_path)
    assert passes["store_float16"]["origin"] == "burnish-example 1.0"
    assert passes["store_float16"]["summary"].startswith("Store an ONNX model's float32 weights as float16")
    assert listed(site, "runtimes", tmp_path)["onnx_numpy"]["origin"] == "burnish-example 1.0"
    assert passes["fuse_operators"]["origin"] == "my-package 0.1"
    assert passes.keys() >= TOLD.keys()
    assert passes["export_onnx"]["origin"] == "burnish"
    shown = run(site, BURNISH, "passes", "list", cwd=tmp_path)
    assert "invalid syntax" in shown.stdout
    assert "broken_gone, which is not installed" in shown.stdout
    assert "the name 'export_onnx' is that of tasks.passes.export_onnx" in shown.stderr


@pytest.mark.parametrize("name", TOLD)
def test_show_says_what_is_wrong_with_a_broken_one(name: str, site: Path, tmp_path: Path) -> None:
    done = run(site, BURNISH, "passes", "show", name, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert TOLD[name] in json.loads(done.stdout)["unavailable"]


def test_doctor_says_what_is_wrong_with_each_and_is_not_hurt(site: Path, tmp_path: Path) -> None:
    done = run(site, BURNISH, "doctor", "--json", cwd=tmp_path)
    found = {check["name"]: check for check in json.loads(done.stdout) if check["area"] in ("pass", "runtime")}
    for name, told in TOLD.items():
        assert told in found[name]["detail"]
        assert not found[name]["works"]
    assert "ended the process" in found["ending"]["detail"]
    assert "tasks.passes.export_onnx" in found["export_onnx of broken 0.1"]["detail"]
    assert [found[name]["works"] for name in ("store_float16", "onnx_numpy", "export_onnx", "onnxruntime")] == [
        True
    ] * 4


def test_the_contracts_hold_them_without_another_line(site: Path, tmp_path: Path) -> None:
    files = [ROOT / "tests/contracts" / name for name in ("test_passes.py", "test_runtimes.py")]
    pytest_quietly = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ROOT]
    chosen = f"{' or '.join(PLUGINS)} or (json and (double or stumbling))"
    done = run(site, *pytest_quietly, *files, "-k", chosen, cwd=ROOT)
    assert done.returncode == 1, done.stdout
    passed = int(done.stdout.rsplit(" passed", 1)[0].rsplit(maxsplit=1)[-1])
    assert passed >= 40
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    assert len(failed) == 2, done.stdout
    assert all("json" in line and ("[double]" in line or "[stumbling]" in line) for line in failed)


def test_a_search_tries_them_and_skips_the_broken_ones_with_the_reason(site: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        f"passes: [store_float16, ending, {', '.join(TOLD)}]\nruntimes: [onnxruntime, onnx_numpy]\nbatch_sizes: [1]\n"
    )
    done = run(
        site,
        *(BURNISH, "optimize", two_layers(tmp_path / "model.onnx"), "--eval", samples(tmp_path / "evaluation.npz", 1)),
        *("--config", "config.yaml", "--budget", "4", "--out", "out", "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    result = OptimizationResult.model_validate_json(done.stdout)
    ended = {one.candidate.label: one for one in result.candidates}
    for label in ("source @ onnx_numpy", "store_float16 @ onnxruntime", "store_float16 @ onnx_numpy"):
        assert ended[label].status in (CandidateStatus.MEASURED, CandidateStatus.BUILT), ended[label].reason
        assert ended[label].score is not None
    for name, told in (TOLD | {"ending": ""}).items():
        broken = next(one for one in result.candidates if name in one.candidate.label)
        assert broken.status is CandidateStatus.SKIPPED
        assert told in broken.reason
