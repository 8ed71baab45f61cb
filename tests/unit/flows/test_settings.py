import json
import stat
from pathlib import Path

import pytest

from flows.settings import STACK_FILE, StackSettings, keep_settings, stack_settings
from registry.errors import InputError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_HOME", str(tmp_path / "named"))


def test_what_a_stack_started_with_is_read_again_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_settings(StackSettings(gateway_port=9000, workers=5))
    assert (stack_settings().gateway_port, stack_settings().workers) == (9000, 5)
    monkeypatch.setenv("BURNISH_WORKERS", "7")
    assert (stack_settings().gateway_port, stack_settings().workers) == (9000, 7)


def test_a_folder_that_is_given_has_its_own_file(tmp_path: Path) -> None:
    keep_settings(StackSettings(gateway_port=9000))
    keep_settings(StackSettings(home=tmp_path / "other", gateway_port=9001))
    assert stack_settings().gateway_port == 9000
    other = stack_settings(tmp_path / "other")
    assert (other.gateway_port, other.home) == (9001, tmp_path / "other")


def test_the_file_does_not_name_its_folder_and_is_its_owners_alone(tmp_path: Path) -> None:
    keep_settings(StackSettings(ledger_url="postgresql://user:secret@host/db"))
    path = tmp_path / "named" / STACK_FILE
    assert "home" not in json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stack_settings().home == tmp_path / "named"


def test_a_relative_folder_is_taken_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stack_settings(Path("here")).home == tmp_path / "here"
    monkeypatch.setenv("BURNISH_HOME", "there")
    assert stack_settings().home == tmp_path / "there"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert stack_settings(Path("~/mine")).home == tmp_path / "mine"


def test_a_value_that_cannot_be_used_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_WORKERS", "none")
    monkeypatch.setenv("BURNISH_CAPTURE_RATE", "2")
    with pytest.raises(InputError, match=r"BURNISH_WORKERS: .*integer") as caught:
        stack_settings()
    assert "BURNISH_CAPTURE_RATE" in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[1]", '"text"'])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / STACK_FILE).write_text(content)
    with pytest.raises(InputError, match=STACK_FILE):
        stack_settings()


@pytest.mark.parametrize(("variable", "value"), [("trainers", "module:function"), ("pools", "hot=m")])
def test_a_variable_that_is_no_json_is_named_and_not_the_file(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"BURNISH_{variable.upper()}", value)
    with pytest.raises(InputError, match=rf'must be JSON .*"{variable}"') as caught:
        stack_settings()
    assert STACK_FILE not in str(caught.value)
