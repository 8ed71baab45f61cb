"""The live table of a search, drawn on a made-up terminal with a made-up clock."""

import io

import pytest
from rich.console import Console

from burnish.cli.board import Board, show_lines
from registry.records.optimization import CandidateResult, CandidateStatus
from tests.unit.tasks.optimizer.results import benchmark, candidate, ended, measured, refused

BASELINE = measured(candidate(runtime="torch_export"), benchmark(1.0), baseline=True)


def drawn(*events: CandidateResult, height: int = 40, passed_s: float = 0.0) -> str:
    now = [0.0]
    console = Console(file=io.StringIO(), width=160, height=height, force_terminal=False)
    board = Board(console, 600.0, clock=lambda: now[0])
    for event in events:
        board.show(event)
    now[0] = passed_s
    with console.capture() as capture:
        console.print(board.view())
    return capture.get()


def test_it_says_what_is_tried_how_long_is_left_and_the_best_so_far_with_its_speed_up() -> None:
    fast = measured(candidate("export_onnx"), benchmark(0.25), status=CandidateStatus.BUILT)
    pending = ended(candidate("export_onnx", "quantize"), CandidateStatus.PENDING, "")
    text = drawn(BASELINE, fast, pending, passed_s=83.0)
    assert "trying export_onnx > quantize @ onnxruntime; 2 done, at most 8:37 left" in text
    assert "best so far: export_onnx @ onnxruntime, 0.25 ms, 4.0 times as fast as the source" in text


def test_a_candidate_has_one_row_and_the_fastest_is_on_top() -> None:
    one = candidate("export_onnx")
    states = [
        ended(one, CandidateStatus.PENDING, ""),
        measured(one, benchmark(0.25), status=CandidateStatus.BUILT, benchmark=None),
        measured(one, benchmark(0.25), status=CandidateStatus.BUILT),
        measured(one, benchmark(0.25)),
    ]
    lines = [line for line in drawn(BASELINE, *states).splitlines() if " @ " in line and "best so far" not in line]
    assert [line.split("│")[1].strip() for line in lines] == [
        "export_onnx @ onnxruntime",
        "source @ torch_export (baseline)",
    ]


def test_a_long_table_is_folded_to_the_terminal_and_the_rest_is_counted() -> None:
    events = [measured(candidate(f"pass{number}"), benchmark(1.0 + number)) for number in range(20)]
    events += [refused(candidate(f"bad{number}"), "fidelity", "lost 9") for number in range(5)]
    events += [ended(candidate(f"not{number}"), CandidateStatus.SKIPPED, "slow") for number in range(7)]
    text = drawn(BASELINE, *events, height=24)
    assert len(text.splitlines()) <= 24
    assert "pass0 @" in text
    assert "pass19 @" not in text
    assert "5 refused" in text
    assert "7 skipped" in text
    assert drawn(*events, height=100).count(" @ ") <= 17


def test_elsewhere_a_line_tells_a_first_look_an_ending_and_what_was_taken_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_lines(ended(candidate("a"), CandidateStatus.PENDING, ""))
    show_lines(measured(candidate("b"), benchmark(0.5), status=CandidateStatus.BUILT, taken_over=True))
    show_lines(ended(candidate("c"), CandidateStatus.SKIPPED, "too slow"))
    assert capsys.readouterr().out.splitlines() == [
        "b @ onnxruntime: first look (taken over) p50 0.5 ms, score 97.0%",
        "c @ onnxruntime: skipped: too slow",
    ]
