"""The report page: all candidates, all reasons, nothing unescaped, nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path

from registry.records.optimization import CandidateStatus, OptimizationResult
from tasks.optimizer.report import write_report
from tests.unit.tasks.optimizer.results import benchmark, candidate, ended, full_result, measured, refused, result


class Text(HTMLParser):
    """The visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.parts))


def page(asked: OptimizationResult, folder: Path) -> str:
    path = write_report(asked, folder / "new")
    assert path == folder / "new" / "report.html"
    return path.read_text(encoding="utf-8")


def test_every_candidate_and_every_reason_is_shown(tmp_path: Path) -> None:
    asked = full_result()
    shown = Text(page(asked, tmp_path)).text
    for one in asked.candidates:
        assert f"@ {one.candidate.runtime.name}" in shown
        assert one.reason in shown
    assert "16.6 x faster, baseline 0.880 ms" in shown
    assert shown.count("p50 latency 0.0940 ms, the winner's 0.0530 ms") == 1  # computed: the search gave no reason
    assert "p99 from fewer than 299 calls" in shown and "few calls" in shown
    for figure in ("0.0519 to 0.0541 ms", "37,700 /s", "97.1 %", "89.8 KiB", "96.0 MiB"):
        assert figure in shown
    for fact in ("AMD EPYC", "avx512_vnni", "onnxruntime 1.31.1", "burnish optimize MODEL", "reproduce.py", "b" * 64):
        assert fact in shown


def test_the_winner_comes_first_and_the_order_is_by_latency_then_ending(tmp_path: Path) -> None:
    shown = page(full_result(), tmp_path)
    badges = re.findall(r'<td class="name">\s*<span class="badge [^"]*">([^<]*)<', shown)
    assert badges == [
        "winner",
        "front",
        "passed",
        "passed",
        "front",
        "refused",
        "refused",
        "cannot tell",
        "failed",
    ]
    assert "1 skipped, never built" in shown


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    shown = page(full_result(), tmp_path)
    assert not re.search(r"https?://|//\w+\.\w|@import|url\((?!#)", shown)
    assert not {"script", "link", "img", "iframe", "object"} & Text(shown).tags
    assert shown.count("<svg") == 2
    assert "default-src 'none'" in shown


def test_names_and_reasons_are_escaped_in_text_and_plots(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>$x^$&"
    winner = measured(candidate(attack, attack=attack), benchmark(1))
    asked = result(
        winner,
        ended(candidate("a"), CandidateStatus.FAILED, attack),
        refused(candidate("b"), attack, attack),
        winner=winner,
    )
    shown = page(asked, tmp_path)
    assert "<script" not in shown
    assert Text(shown).text.count(attack) >= 5
    assert attack in "".join(re.findall(r"<svg.*?</svg>", shown, re.DOTALL)).replace("&lt;", "<").replace(
        "&gt;", ">"
    ).replace("&amp;", "&")


def test_a_search_without_a_winner_says_so(tmp_path: Path) -> None:
    asked = result(ended(candidate("a"), CandidateStatus.FAILED, "out of memory"), winner=None)
    shown = Text(page(asked, tmp_path))
    assert "No candidate may be chosen" in shown.text and "out of memory" in shown.text
    assert "svg" not in shown.tags


def test_a_baseline_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    baseline = measured(candidate(runtime="torch_export"), benchmark(0.88), baseline=True, on_front=True)
    shown = Text(page(result(baseline, winner=baseline), tmp_path)).text
    assert "the baseline itself" in shown and " x faster" not in shown


def test_the_same_result_gives_the_same_page(tmp_path: Path) -> None:
    assert page(full_result(), tmp_path / "a") == page(full_result(), tmp_path / "b")
