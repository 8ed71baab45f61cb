"""Plug-ins: found by file name and entry point, described unread, imported only when asked for."""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path, PurePath

import pytest

from registry import plugins
from registry.errors import InputError, PluginNotFound, PluginUnavailable
from registry.plugins import PluginKind, describe_plugin, load_plugin, plugin_names

KIND = PluginKind(noun="tool", package="some_tools", group="some.tools")
GOOD = '"""Does good.\n\nMore."""\n\nfrom pathlib import PurePath\n\n\nclass Good(PurePath):\n    pass\n'


@pytest.fixture(autouse=True)
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """An empty package of plug-ins, and a function that adds one."""
    folder = tmp_path / "some_tools"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.split(".")[0] == "some_tools"]:
        monkeypatch.delitem(sys.modules, module)

    def write(name: str, text: str) -> None:
        (folder / f"{name}.py").write_text(text)

    return write


def test_names_come_from_files_and_entry_points(
    add: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("good", GOOD)
    add("_private", "raise RuntimeError")
    add("broken", "raise RuntimeError")
    point = EntryPoint(name="foreign", value="json", group=KIND.group)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == KIND.group else [])
    assert plugin_names(KIND) == ("broken", "foreign", "good")
    assert describe_plugin(KIND, "foreign").module == "json"
    assert "some_tools.good" not in sys.modules


def test_a_plugin_is_described_without_being_imported(add: Callable[[str, str], None]) -> None:
    add("tool", '"""First line.\n\nSecond."""\nINSTALL = "pip install it"\nraise RuntimeError\n')
    info = describe_plugin(KIND, "tool")
    assert (info.name, info.summary, info.module, info.install) == (
        "tool",
        "First line.",
        "some_tools.tool",
        "pip install it",
    )


def test_a_plugin_is_its_modules_one_subclass(add: Callable[[str, str], None]) -> None:
    add("good", GOOD)
    found = load_plugin(KIND, "good", PurePath)
    assert found.__name__ == "Good"


def test_an_unknown_name_is_answered_with_the_known_ones(add: Callable[[str, str], None]) -> None:
    add("good", GOOD)
    add("other", GOOD)
    with pytest.raises(PluginNotFound, match="no tool 'goood'; known: good, other"):
        load_plugin(KIND, "goood", Path)


@pytest.mark.parametrize(
    ("install", "command"), [("", "pip install no_such_library"), ('INSTALL = "get it"\n', "get it")]
)
def test_a_missing_library_is_answered_with_the_command(
    add: Callable[[str, str], None], install: str, command: str
) -> None:
    add("tool", f'"""One."""\n{install}import no_such_library.part\n')
    with pytest.raises(PluginUnavailable, match=f"needs no_such_library, which is not installed here; run: {command}"):
        load_plugin(KIND, "tool", Path)


@pytest.mark.parametrize(("text", "count"), [("", 0), (GOOD + "\n\nclass Two(PurePath):\n    pass\n", 2)])
def test_a_module_with_no_or_two_plugins_is_refused(add: Callable[[str, str], None], text: str, count: int) -> None:
    add("tool", text)
    with pytest.raises(InputError, match=f"exactly one PurePath; it defines {count}"):
        load_plugin(KIND, "tool", PurePath)
