"""What answers say of what made them."""

from serving.engine.lineage import Lineage
from tests.unit.serving.engine.doubles import served


def test_a_lineage_names_model_version_and_artifact() -> None:
    version = served(7)
    lineage = Lineage.of("m", version)
    assert lineage[:3] == ("m", "7", version.artifact.sha256)
    lines = f"x-burnish-model: m\r\nx-burnish-version: 7\r\nx-burnish-artifact: {version.artifact.sha256}\r\n"
    assert lineage.header_lines == lines.encode()
