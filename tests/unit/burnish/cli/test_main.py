from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from burnish import errors
from burnish.cli import main
from registry.errors import InputError, ModelNotFound, TransientError

ROOT = Path(__file__).parents[4]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[click.Command], None]:
    """Put a command in the place of `models`."""

    def install(command: click.Command) -> None:
        monkeypatch.setattr("burnish.cli.versions.models", command)

    return install


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.InputError("the file is gone"), 2),
        (errors.RemoteError("the control API failed"), 3),
        (InputError("no such policy"), 2),
        (ModelNotFound("no such model"), 3),
        (TransientError("the ledger is locked"), 3),
        (click.UsageError("no such option"), 2),
        (click.FileError("a.npz", "gone"), 2),
        (click.Abort(), main.INTERRUPTED),
        (KeyboardInterrupt(), main.INTERRUPTED),
        (click.exceptions.Exit(1), 1),
    ],
)
def test_errors_end_with_their_code_and_no_traceback(
    installed: Callable[[click.Command], None], capsys: pytest.CaptureFixture[str], raised: BaseException, code: int
) -> None:
    @click.command()
    def fails() -> None:
        raise raised

    installed(fails)
    assert main.run(["models"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    if str(raised) and code != 1:
        assert str(raised) in shown.err


def test_a_bug_is_not_swallowed(installed: Callable[[click.Command], None]) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    installed(broken)
    with pytest.raises(ZeroDivisionError):
        main.run(["models"])


def test_success_is_0(installed: Callable[[click.Command], None]) -> None:
    installed(click.Command("fine", callback=lambda: None))
    assert main.run(["models"]) == 0


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], []])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    assert "Usage: burnish" in capsys.readouterr().err


def test_help_lists_every_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {entry.help}" in shown for name, entry in main.COMMANDS.items())


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert version("burnish") in capsys.readouterr().out


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_every_command_of_the_table_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    assert f"Usage: burnish {name}" in capsys.readouterr().out
