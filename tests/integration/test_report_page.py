"""The report page as a browser shows it."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.optimizer.report import write_report
from tests.unit.tasks.optimizer.results import full_result

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
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
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
    assert dom.count("</tr>") + dom.count("<li><b>10. ") == 1 + len(full_result().candidates)


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
