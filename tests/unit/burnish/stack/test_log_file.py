import subprocess
from pathlib import Path

from burnish.stack.log_file import KEPT, last_lines, logged, turn_over


def test_output_and_errors_are_appended_and_every_argument_arrives_as_it_is(tmp_path: Path) -> None:
    log = tmp_path / "a log; with spaces.log"
    log.write_text("before\n")
    script = 'for word in "$@"; do echo "<$word>"; done; echo wrong >&2; exit 7'
    words = ("two words", "$HOME", 'a "quote"', "")
    answer = subprocess.run(logged(("/bin/sh", "-c", script, "sh", *words), log), check=False, timeout=60)
    assert answer.returncode == 7
    assert log.read_text().splitlines() == ["before", *(f"<{word}>" for word in words), "wrong"]


def test_the_logged_command_is_the_process_that_was_started(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with subprocess.Popen(logged(("/bin/sh", "-c", "echo $$"), log)) as process:
        process.wait(60)
    assert log.read_text().strip() == str(process.pid)


def test_a_grown_log_is_turned_over_and_only_some_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    for number in range(KEPT + 3):
        log.write_text(f"{number:010}")
        turn_over(log, max_bytes=10)
        assert not log.exists()
    newest = KEPT + 2
    kept = {path.name: int(path.read_text()) for path in tmp_path.iterdir()}
    assert kept == {f"part.log.{age + 1}": newest - age for age in range(KEPT)}


def test_a_small_log_and_a_missing_one_stay_as_they_are(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    turn_over(log, max_bytes=10)
    log.write_text("x" * 9)
    turn_over(log, max_bytes=10)
    assert [path.name for path in tmp_path.iterdir()] == ["part.log"]


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    assert last_lines(path) == ""
    path.write_text("\n".join(f"line {number}" for number in range(5000)))
    assert last_lines(path, 2) == "line 4998\nline 4999"
