"""The report page: all candidates, all reasons, nothing unescaped, nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path

from registry.records.benchmark import Interval
from registry.records.gate import PairedTest, SliceResult, Verdict
from registry.records.optimization import CandidateStatus, OptimizationResult
from tasks.optimizer.report import write_report
from tests.unit.tasks.optimizer.results import (
    around,
    benchmark,
    candidate,
    crowded_result,
    ended,
    full_result,
    measured,
    refused,
    result,
)


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


def test_the_winner_comes_first_then_the_front_then_by_latency_and_ending(tmp_path: Path) -> None:
    shown = page(full_result(), tmp_path)
    badges = re.findall(r'class="name">\s*<span class="badge [^"]*">([^<]*)<', shown)
    assert badges == ["winner", "front", "front", "passed", "passed", "refused", "refused", "cannot tell", "failed"]
    assert "1 skipped, never built" in shown
    assert "3 refused: 2 by fidelity, 1 by batch_invariant" in shown


def test_a_crowd_is_grouped_and_counted_and_none_is_lost(tmp_path: Path) -> None:
    asked = crowded_result()
    shown = page(asked, tmp_path)
    text = Text(shown).text
    assert "7 on the front or a baseline, 30 passed and lost to the front, 12 refused, 8 failed, 8 skipped." in text
    for said in ("24 more that passed", "12 refused: 8 by fidelity, 4 by batch_invariant", "8 failed", "8 skipped"):
        assert said in text
    numbers = {int(number) for number in re.findall(r'(?:class="recipe">|<b>)(\d+)\. ', shown)}
    assert numbers == set(range(1, len(asked.candidates) + 1))
    assert shown.index('id="candidates"') < shown.index('id="near"') < shown.index('id="refused"')
    assert "Latency of 14 measured candidates with its intervals, the front first" in text


def test_cost_is_shown_where_there_is_a_price_and_else_how_to_give_one(tmp_path: Path) -> None:
    assert "give price_per_core_hour in the configuration" in Text(page(full_result(), tmp_path / "a")).text
    priced = Text(page(crowded_result(), tmp_path / "b")).text
    assert "cost of a million requests 0.700 baseline 1.40" in priced
    assert "0.05 a core-hour times the threads" in priced


def test_energy_is_shown_where_it_is_told_and_else_why_not(tmp_path: Path) -> None:
    def on(energy: str, asked: OptimizationResult) -> OptimizationResult:
        return asked.model_copy(update={"environment": asked.environment.model_copy(update={"energy": energy})})

    asked = full_result()
    without = Text(page(on("not measured: a virtual machine", asked), tmp_path / "a")).text
    assert "Energy of a call: not measured: a virtual machine." in without
    assert "mJ" not in without
    winner = asked.chosen
    assert winner is not None
    assert winner.benchmark is not None
    told = [one.model_copy(update={"energy_mj": around(1.234, 0.1)}) for one in winner.benchmark.latency]
    figures = winner.benchmark.model_copy(update={"latency": tuple(told)})
    only = winner.model_copy(update={"benchmark": figures})
    text = Text(page(on("RAPL, whole package", result(only, winner=only)), tmp_path / "b")).text
    assert "Energy a call" in text
    assert "1.23 mJ 1.11 to 1.36 mJ" in text
    assert "Energy of a call: RAPL, whole package." in text


def test_sensitivity_marks_the_layers_left_in_float_and_is_a_sentence_where_there_is_none(tmp_path: Path) -> None:
    crowded = page(crowded_result(), tmp_path / "a")
    assert crowded.count("<svg") == 3
    assert "encoder.layers.0.self_attn.out_proj</code> (Linear): 0.2, left in float" in crowded
    assert crowded.count(", left in float") == 2  # in the plot and in the list
    assert crowded.count("<li><code>encoder.layers.") == 31
    assert "no quantized candidate was refused" in Text(page(full_result(), tmp_path / "b")).text


def test_the_evidence_of_a_candidate_tells_power_slice_and_layer(tmp_path: Path) -> None:
    asked = full_result()
    winner = asked.chosen
    assert winner is not None
    assert winner.comparison is not None
    test = PairedTest(
        samples=400,
        losses=3,
        wins=1,
        difference=Interval(estimate=-0.005, low=-0.01, high=0.0),
        margin=0.01,
        alpha=0.05,
        p_value=0.2,
        verdict=Verdict.CANNOT_TELL,
        samples_required=299,
        power=0.31,
        samples_for_power=1480,
    )
    worst = SliceResult(
        slice="night", score=Interval(estimate=0.81, low=0.7, high=0.9), reference_score=0.93, test=test
    )
    comparison = winner.comparison.model_copy(update={"first_diverging_layer": "block.conv2"})
    one = winner.model_copy(update={"fidelity": test, "worst_slice": worst, "comparison": comparison})
    text = Text(page(result(one, winner=one), tmp_path)).text
    assert "passes with 31.0 % of such sets of 400 samples; 1480 samples would make it 80 %" in text
    assert "Worst slice: night , score 81.0 % on 400 samples, the source 93.0 %" in text
    assert "First diverging layer on that sample: block.conv2" in text


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
