"""A draft as tags, parameters and figures."""

import json

from registry.records.model import VersionDraft
from registry.store.version_record import DRAFT, MAX_TAG_BYTES, run_figures, run_parameters, version_tags
from tests.drafts import draft


def test_the_whole_draft_is_a_tag_unless_it_is_too_large() -> None:
    small, large = draft("digits", "one"), draft("digits", "one", libraries=6000)
    assert VersionDraft.model_validate_json(version_tags(small)[DRAFT]) == small
    assert DRAFT not in version_tags(large)
    for each in (small, large):
        tags = version_tags(each)
        assert max(len(value.encode()) for value in tags.values()) <= MAX_TAG_BYTES
        assert tags["burnish.draft_digest"] == each.digest


def test_a_first_version_says_that_it_has_no_parent() -> None:
    first = draft("digits", "one").model_copy(update={"parent_version": None})
    assert version_tags(first)["burnish.parent_version"] == "none"


def test_each_figure_has_its_interval() -> None:
    name = "latency_p50_ms_batch_1"
    assert run_figures(draft("digits", "one")) == {name: 1 / 3, f"{name}_low": 0.1 + 0.2, f"{name}_high": 0.5}


def test_parameters_tell_recipe_and_runtime_to_people_and_programs() -> None:
    parameters = run_parameters(draft("digits", "one"))
    assert parameters["recipe"] == "export_onnx > quantize_static_int8(method=minmax)"
    assert [step["name"] for step in json.loads(parameters["recipe_json"])] == ["export_onnx", "quantize_static_int8"]
    assert json.loads(parameters["runtime_json"]) == {"name": "onnxruntime", "knobs": {"threads": 1}}
    bare = draft("digits", "one").model_copy(update={"recipe": ()})
    assert run_parameters(bare)["recipe"] == "none"
