import re
from pathlib import Path

import pytest

import serving
from serving.module_closure import closure, requirements
from serving.package import bento_tag

ROOT = Path(serving.__file__).parents[1]
OURS = ("serving", "registry")


@pytest.mark.parametrize(
    ("model", "tag"), [("digits", "digits:v3"), ("a", "a:v3"), ("0-a_b", "0-a_b:v3"), ("acme.a", "acme.a:v3")]
)
def test_a_bento_is_named_by_its_model_and_version(model: str, tag: str) -> None:
    assert bento_tag(model, 3) == tag


@pytest.mark.parametrize(
    "model",
    ["digits-", "digits_", "digits--", "d" + "_" * 62, "d" * 62 + "-", "acme.digits-", "t" * 31 + "." + "d" * 63],
)
def test_a_name_that_bentoml_refuses_becomes_one_that_no_model_has(model: str) -> None:
    name = bento_tag(model, 1).partition(":")[0]
    assert re.fullmatch(r"[a-z0-9][-._a-z0-9]*[a-z0-9]", name)
    assert len(name) <= 63
    assert ".." in name


def test_names_that_differ_only_at_their_end_stay_apart() -> None:
    names = [
        "digits-",
        "digits_",
        "digits--",
        "digits-_",
        "digits",
        "t" * 31 + "." + "d" * 62,
        "t" * 31 + "." + "d" * 63,
    ]
    assert len({bento_tag(name, 1) for name in names}) == len(names)


def test_the_closure_of_a_service_holds_what_it_imports_and_nothing_else() -> None:
    found = closure(ROOT, OURS, ("serving.bento_template.service", "serving.runtimes.onnxruntime"))
    assert "serving/runtimes/onnxruntime.py" in found.files
    assert "registry/records/release.py" in found.files
    assert "registry/__init__.py" in found.files
    assert not [path for path in found.files if "engine" in path or "ledger" in path or "openvino" in path]
    assert {"bentoml", "onnxruntime", "numpy", "pydantic"} <= set(found.libraries)
    assert not {"mlflow", "prefect", "torch", "pathlib", "serving"} & set(found.libraries)


def test_the_closure_follows_imports_inside_functions_and_from_packages(tmp_path: Path) -> None:
    (tmp_path / "ours" / "deep").mkdir(parents=True)
    (tmp_path / "ours" / "__init__.py").write_text("")
    (tmp_path / "ours" / "deep" / "__init__.py").write_text("import zlib")
    (tmp_path / "ours" / "start.py").write_text("def late():\n    from ours.deep import leaf\n")
    (tmp_path / "ours" / "deep" / "leaf.py").write_text("import yaml.nodes\nimport ours.start\n")
    (tmp_path / "ours" / "other.py").write_text("import onnx\n")
    (tmp_path / "yaml.py").write_text("import onnx\n")
    found = closure(tmp_path, ("ours",), ("ours.start",))
    assert found.files == ("ours/__init__.py", "ours/deep/__init__.py", "ours/deep/leaf.py", "ours/start.py")
    assert found.libraries == ("yaml",)


def test_requirements_name_distributions_and_pin_what_is_installed() -> None:
    found = requirements(("yaml", "torch", "pydantic"))
    assert [line.partition("==")[0].lower() for line in found] == ["pyyaml", "pydantic", "torch"]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line) for line in found)
