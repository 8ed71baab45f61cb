from pathlib import Path

from burnish.stack.log_file import KEPT, LogFile, last_lines


def test_bytes_are_kept_as_they_came_even_when_a_letter_is_cut_in_two(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "part.log")
    letter = "é".encode()
    log({"data": letter[:1]})
    log({"data": letter[1:] + b"\n"})
    log.close()
    assert (tmp_path / "part.log").read_text(encoding="utf-8") == "é\n"


def test_a_log_goes_on_where_an_earlier_run_left_off(tmp_path: Path) -> None:
    (tmp_path / "part.log").write_bytes(b"before\n")
    log = LogFile(tmp_path / "part.log")
    log({"data": b"after\n"})
    log.close()
    assert (tmp_path / "part.log").read_bytes() == b"before\nafter\n"


def test_a_grown_log_is_turned_over_and_only_some_are_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "part.log", max_bytes=10)
    for number in range(KEPT + 4):
        log({"data": b"%07d\n" % number})
    log.close()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    newest = KEPT + 3
    assert kept == {
        "part.log": b"%07d\n" % newest,
        **{f"part.log.{age}": b"%07d\n" % (newest - age) for age in range(1, KEPT + 1)},
    }


def test_a_log_that_an_earlier_run_filled_is_turned_over_at_once(tmp_path: Path) -> None:
    (tmp_path / "part.log").write_bytes(b"x" * 10)
    log = LogFile(tmp_path / "part.log", max_bytes=10)
    log({"data": b"y"})
    log.close()
    assert (tmp_path / "part.log").read_bytes() == b"y"
    assert (tmp_path / "part.log.1").read_bytes() == b"x" * 10


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    assert last_lines(path) == ""
    path.write_text("\n".join(f"line {number}" for number in range(5000)))
    assert last_lines(path, 2) == "line 4998\nline 4999"
