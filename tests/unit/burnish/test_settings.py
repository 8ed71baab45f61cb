import json
from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.settings import DEFAULTS, STACK_FILE, Endpoints, find_endpoints, history_file
from flows import settings as stack_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONTROL_URL", "GATEWAY_URL", "HOST", "CONTROL_PORT", "GATEWAY_PORT"):
        monkeypatch.delenv(f"BURNISH_{name}", raising=False)
    monkeypatch.setenv("BURNISH_HOME", str(tmp_path))
    return tmp_path


def test_defaults_are_those_of_the_stack() -> None:
    settings = stack_settings.StackSettings()
    assert find_endpoints() == Endpoints(settings.control_url, settings.gateway_url)
    assert stack_settings.STACK_FILE == STACK_FILE
    assert all(stack_settings.StackSettings.model_fields[name].default == value for name, value in DEFAULTS.items())


def test_the_running_stack_is_found_as_the_stack_finds_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / STACK_FILE).write_text(json.dumps({"home": str(home), "control_port": 1234, "gateway_port": 99}))
    monkeypatch.setenv("BURNISH_GATEWAY_PORT", "77")
    settings = stack_settings.StackSettings()
    assert find_endpoints() == Endpoints("http://127.0.0.1:1234", "http://127.0.0.1:77")
    assert find_endpoints() == Endpoints(settings.control_url, settings.gateway_url)


def test_urls_of_the_environment_win_and_arguments_win_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_CONTROL_URL", "http://control.test")
    assert find_endpoints().control_url == "http://control.test"
    assert find_endpoints("http://mine.test").control_url == "http://mine.test"


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://x", "http://", "http://[", "http://a:port", "http://a:99999", "http://a\x01"]
)
def test_an_address_that_is_none_is_an_input_error(home: Path, url: str) -> None:
    for given in ((url, None), (None, url)):
        with pytest.raises(InputError, match="give one such as http://HOST:PORT"):
            find_endpoints(*given)
    (home / STACK_FILE).write_text(json.dumps({"control_port": "port"}))
    with pytest.raises(InputError, match="control API"):
        find_endpoints()


@pytest.mark.parametrize("key", ["bn_1_secret\n", " bn_1_secret", "bn_1_sécret"])
def test_a_key_that_cannot_be_sent_is_an_input_error_that_does_not_tell_it(key: str) -> None:
    with pytest.raises(InputError, match="BURNISH_API_KEY") as refused:
        find_endpoints(api_key=key)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_unreadable_stack_file_is_an_input_error(home: Path, text: str) -> None:
    (home / STACK_FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"stack\.json"):
        find_endpoints()


def test_the_history_lies_in_the_users_cache_or_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_HISTORY", str(tmp_path / "mine.jsonl"))
    assert history_file() == tmp_path / "mine.jsonl"
    monkeypatch.delenv("BURNISH_HISTORY")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "burnish" / "history.jsonl"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert history_file() == Path("~/.cache/burnish/history.jsonl").expanduser()
