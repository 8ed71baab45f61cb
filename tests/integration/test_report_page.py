"""The report page as a browser shows it."""

import html
import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tasks.optimizer.report import write_report
from tests.unit.tasks.optimizer.results import crowded_result, full_result

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium")


def browse(page: Path, profile: Path, *flags: str) -> str:
    """Open a page in a browser of its own and return what it printed."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(full_result(), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def dom(page: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return browse(page, tmp_path_factory.mktemp("profile"), "--dump-dom")


def test_the_page_holds_the_winner_and_every_reason(dom: str) -> None:
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", dom)))
    assert '<h1 id="winner">export_onnx &gt; quantize_static_int8 @ onnxruntime</h1>' in dom
    for candidate in full_result().candidates:
        assert candidate.reason in text
    rows = dom.count('<tr role="row"') - dom.count("<thead")
    assert rows + dom.count("<li><b>10. ") == len(full_result().candidates)


def test_the_plots_are_elements_of_the_page(dom: str) -> None:
    assert dom.count("<svg") == 2
    assert len(re.findall(r'<use [^>]*xlink:href="#', dom)) > 10


def test_nothing_is_fetched(dom: str) -> None:
    assert not re.search(r"https?://|<script|<link|<img|<iframe", dom)


@pytest.mark.parametrize("width", [390, 1280])
def test_it_renders_at_the_width_of_a_phone_and_of_a_desk(page: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={picture}", f"--window-size={width},1600")
    header = picture.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == (width, 1600)


_FRAME = """<!doctype html><body style="margin:0"><iframe width="{width}" height="2000" src="{page}"></iframe><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  page.querySelectorAll("details").forEach(one => one.open = true);
  const wide = [...page.querySelectorAll("main *")].filter(one => {{
    const scrolls = one.closest(".scroll, pre, .unseen, svg");
    return (!scrolls || scrolls === one) && one.getBoundingClientRect().right > {width};
  }});
  document.title = JSON.stringify({{
    scroll: page.documentElement.scrollWidth, wide: wide.map(one => one.outerHTML.slice(0, 80)),
    headings: [...page.querySelectorAll("h1, h2, h3")].map(one => +one.tagName[1]),
    unnamed: [...page.querySelectorAll('[role="img"]')].filter(one => one.getAttribute("aria-labelledby").split(" ")
      .some(id => !page.getElementById(id))).length,
    pictures: page.querySelectorAll('[role="img"] svg').length,
  }});
}});
</script>"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(crowded_result(), tmp_path_factory.mktemp("crowded"))


def laid_out(page: Path, folder: Path, width: int) -> dict[str, Any]:
    """What a browser says of a page of a width, with everything unfolded."""
    frame = folder / "frame.html"
    frame.write_text(_FRAME.format(width=width, page=page.as_uri()))
    dom = browse(frame, folder / "profile", "--dump-dom", "--allow-file-access-from-files", "--window-size=1400,2000")
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert title
    found: dict[str, Any] = json.loads(html.unescape(title[1]))
    return found


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_a_crowd_fits_every_width_and_its_parts_have_names(crowded: Path, tmp_path: Path, width: int) -> None:
    found = laid_out(crowded, tmp_path, width)
    assert found["scroll"] <= width
    assert found["wide"] == []
    assert found["headings"][0] == 1
    assert all(after - before <= 1 for before, after in pairwise(found["headings"]))
    assert (found["pictures"], found["unnamed"]) == (3, 0)


def test_nothing_is_complained_about_and_it_prints(crowded: Path, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    flags = ("--enable-logging=stderr", f"--print-to-pdf={paper}", f"--user-data-dir={tmp_path / 'profile'}")
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, *flags, crowded.as_uri()], capture_output=True, text=True, timeout=180, check=True
    )
    assert "CONSOLE" not in done.stderr
    assert paper.read_bytes().startswith(b"%PDF")
