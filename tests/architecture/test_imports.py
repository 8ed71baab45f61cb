"""What is imported when: the command line and the client stay light, and apart from the platform."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import burnish

FLAT = ("flows", "tasks", "serving", "monitoring", "registry")
HEAVY = (
    "bentoml", "evidently", "fastapi", "great_expectations", "httpx", "mlflow", "numpy", "onnxruntime", "pandas",
    "prefect", "pydantic", "rich", "sqlalchemy", "torch",
)  # fmt: skip
DUMP = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"


def imported_by(code: str, folder: Path) -> set[str]:
    """Run code in a fresh interpreter in a folder; return the top-level names of all that it imported."""
    program = f"{code}\n{DUMP}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.strip().splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nonsense"]])
def test_the_frame_of_the_command_line_imports_click_and_the_standard_library_only(
    tmp_path: Path, arguments: list[str]
) -> None:
    before = imported_by("", tmp_path)
    after = imported_by(f"from burnish.cli.main import run; run({arguments})", tmp_path)
    allowed = {"burnish", "click", "colorama"} | set(sys.stdlib_module_names)
    assert after - before - allowed == set()


def test_import_burnish_imports_nothing_heavy(tmp_path: Path) -> None:
    assert imported_by("import burnish", tmp_path).isdisjoint({*HEAVY, *FLAT})


def test_the_client_imports_nothing_of_the_platform(tmp_path: Path) -> None:
    found = imported_by("import burnish; burnish.Client; burnish.Prediction; burnish.RemoteError", tmp_path)
    assert "httpx" in found
    assert found.isdisjoint({*FLAT, "torch", "numpy", "pydantic"})


def test_client_and_push_work_in_a_folder_that_holds_packages_of_the_same_names(tmp_path: Path) -> None:
    for name in FLAT:
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('the package of the user was imported')\n")
    code = "import burnish; burnish.Client('http://127.0.0.1:1').close(); assert callable(burnish.push)"
    found = imported_by(code, tmp_path)
    assert "torch" in found
    assert found.isdisjoint(FLAT)


@pytest.mark.parametrize("name", ["Client", "push", "InputError", "RemoteError", "Optimization"])
def test_every_public_name_is_reached_from_the_package(name: str) -> None:
    assert name in burnish.__all__
    assert name in dir(burnish)
    assert getattr(burnish, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        burnish.nonsense  # noqa: B018
