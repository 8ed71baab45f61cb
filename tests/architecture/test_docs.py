"""The docs tell of every setting, and the README's commands are the ones that run."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from flows.settings import StackSettings
from serving.settings import EngineSettings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("settings", [StackSettings, EngineSettings])
def test_operate_lists_every_setting(settings: type[BaseSettings]) -> None:
    page = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    prefix = settings.model_config["env_prefix"]
    missing = [name for name in settings.model_fields if f"`{prefix}{name.upper()}`" not in page]
    assert not missing


def test_operate_lists_no_setting_that_is_gone() -> None:
    page = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    known = {
        f"{settings.model_config['env_prefix']}{name.upper()}"
        for settings in (StackSettings, EngineSettings)
        for name in settings.model_fields
    } | {"BURNISH_CONTROL_URL", "BURNISH_GATEWAY_URL", "BURNISH_API_KEY", "BURNISH_HISTORY"}
    assert set(re.findall(r"`(BURNISH_[A-Z_]+)`", page)) <= known


def test_readme_names_the_two_commands_and_the_makefile_has_them() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert re.search(rf"^make {target}\b", readme, re.MULTILINE)
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_ci_runs_the_readme_command() -> None:
    assert (ROOT / ".ci/run").read_text(encoding="utf-8").rstrip().endswith("make test")


@pytest.mark.parametrize("page", [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "ARCHITECTURE.md"])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
