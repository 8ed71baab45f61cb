"""Plug-ins: found by file name and entry point, described unread, imported only when asked for."""

import sys
from abc import abstractmethod
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path, PurePath
from typing import ClassVar

import pytest
from pydantic import BaseModel

from registry import plugins
from registry.errors import PluginNotFound, PluginUnavailable
from registry.plugins import PluginKind, describe_plugin, hidden_plugins, load_plugin, plugin_names, usable_plugin

KIND = PluginKind(noun="tool", package="some_tools", group="some.tools")
GOOD = '"""Does good.\n\nMore."""\n\nfrom pathlib import PurePath\n\n\nclass Good(PurePath):\n    pass\n'
TOOL = """\"\"\"A tool.\"\"\"
from typing import ClassVar
from tests.unit.registry.test_plugins import Base


class Tool(Base):
"""
WHOLE = "    power: ClassVar[int] = 1\n    def work(self): pass\n"
ASKED = "    @classmethod\n    def unavailable(cls): raise KeyError('CUDA_HOME')\n"


class Base(BaseModel):
    """What a tool is."""

    power: ClassVar[int]
    reason: ClassVar[str | None] = None

    @classmethod
    def unavailable(cls) -> str | None:
        return cls.reason

    @classmethod
    def search_values(cls) -> dict[str, tuple[int, ...]]:
        return {}

    @abstractmethod
    def work(self) -> None: ...


def announce(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    """Install entry points."""
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point for point in points if point.group == group])


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
    announce(monkeypatch, EntryPoint(name="foreign", value="json", group=KIND.group))
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
    with pytest.raises(PluginUnavailable, match=f"exactly one PurePath to be a tool; it defines {count}"):
        load_plugin(KIND, "tool", PurePath)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def broken(:\n", r"some_tools/tool\.py, line 1: "),
        ("raise RuntimeError('out of order')\n", "cannot be imported: RuntimeError: out of order"),
        ("raise SystemExit(3)\n", "cannot be imported: SystemExit: 3"),
        ("from pathlib import NoSuchPath\n", "cannot be imported: ImportError: cannot import name 'NoSuchPath'"),
        (TOOL + "    pass\n", "Tool does not set power"),
        (TOOL + "    power: ClassVar[int] = 1\n", "Tool does not define work"),
        (TOOL + WHOLE + "    size: int\n", "Tool has knobs without a default: size"),
        (TOOL + WHOLE + "    reason: ClassVar[str | None] = 'no power here'\n", "cannot run here: no power here"),
        (TOOL + WHOLE + "    reason: ClassVar[int] = 1 / 0\n", "ZeroDivisionError"),
        (TOOL + WHOLE + ASKED, "broken: KeyError when asked whether it can run here: 'CUDA_HOME'"),
    ],
)
def test_whatever_is_wrong_with_a_plugin_is_told_as_unavailable(
    add: Callable[[str, str], None], text: str, told: str
) -> None:
    add("tool", text)
    assert plugin_names(KIND) == ("tool",)
    assert describe_plugin(KIND, "tool").module == "some_tools.tool"
    with pytest.raises(PluginUnavailable, match=told):
        usable_plugin(KIND, "tool", Base)  # type: ignore[type-abstract]


def test_a_whole_plugin_is_usable(add: Callable[[str, str], None]) -> None:
    add("tool", TOOL + WHOLE)
    assert usable_plugin(KIND, "tool", Base).__name__ == "Tool"  # type: ignore[type-abstract]


def test_an_entry_point_to_nothing_is_a_problem_of_that_plugin_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, EntryPoint("gone", "no_such_package.tool", KIND.group))
    info = describe_plugin(KIND, "gone")
    assert "no_such_package.tool, which is not installed" in (info.problem or "")
    with pytest.raises(PluginUnavailable, match="not installed"):
        load_plugin(KIND, "gone", Path)


def test_describing_does_not_import_the_packages_above(
    add: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "foreign" / "tool.py").write_text(GOOD)
    announce(monkeypatch, EntryPoint("tool", "foreign.tool", KIND.group))
    assert describe_plugin(KIND, "tool").summary == "Does good."
    assert "foreign" not in sys.modules


def test_a_name_has_one_plugin_and_the_others_are_told(
    add: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("good", GOOD)
    points = [("good", "elsewhere.good"), ("tool", "b.tool"), ("tool", "a.tool")]
    announce(monkeypatch, *(EntryPoint(name, value, KIND.group) for name, value in points))
    assert plugin_names(KIND) == ("good", "tool")
    assert describe_plugin(KIND, "good").module == "some_tools.good"
    assert describe_plugin(KIND, "tool").module == "a.tool"
    assert [(info.name, info.module, info.problem) for info in hidden_plugins(KIND)] == [
        ("good", "elsewhere.good", "the name 'good' is that of some_tools.good; rename the entry point"),
        ("tool", "b.tool", "the name 'tool' is that of a.tool; rename the entry point"),
    ]
