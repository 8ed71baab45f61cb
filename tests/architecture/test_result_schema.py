"""The committed schema of a result is the one of the records, and results hold to it."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from registry.records.optimization import OptimizationResult
from tasks.optimizer.result_schema import result_schema
from tests.unit.tasks.optimizer.results import crowded_result, full_result

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = DOCS / "optimization-result.schema.json"


def test_the_committed_schema_is_that_of_the_records() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == result_schema(), "run: make docs"


@pytest.mark.parametrize("result", [full_result(), crowded_result()], ids=["every ending", "a crowd"])
def test_results_hold_to_the_schema(result: OptimizationResult) -> None:
    written = json.loads(result.model_dump_json())
    checker = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    checker.check_schema(checker.schema)
    checker.validate(written)
    written["candidates"][0]["status"] = "marvellous"
    assert not checker.is_valid(written)


def test_every_field_that_the_docs_explain_exists() -> None:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    page = (DOCS / "report.md").read_text(encoding="utf-8").partition("## The JSON")[2]
    named = re.findall(r"^\| `([a-z_\[\].]+)` \|", page, re.MULTILINE)
    assert len(named) > 10
    for path in named:
        here = schema
        for part in path.split("."):
            here = _inside(schema, here)["properties"][part.removesuffix("[]")]


def _inside(schema: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """Follow references, lists and alternatives to the object that they lead to."""
    for option in here.get("anyOf", []):
        if option.get("type") != "null":
            return _inside(schema, option)
    if "items" in here:
        return _inside(schema, here["items"])
    if "$ref" in here:
        found: dict[str, Any] = schema["$defs"][here["$ref"].rsplit("/", 1)[-1]]
        return found
    return here
