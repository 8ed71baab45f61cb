"""The model card says what a person asks of a version."""

from registry.model_card import model_card
from tests.drafts import draft


def test_the_card_names_origin_figures_gate_and_machine() -> None:
    lines = model_card(draft("digits", "one")).splitlines()
    assert lines[0] == "# digits"
    for line in (
        "- Recipe: export_onnx > quantize_static_int8(method=minmax)",
        "- Runtime: onnxruntime(threads=1)",
        f"- Artifact: onnx, 12 bytes, sha256 `{'a' * 64}`",
        f"- Source: exported_program, 34 bytes, sha256 `{'5' * 64}`",
        f"- Evaluation set: `{'e' * 64}`",
        "- Champion it was gated against: version 1",
        "| input x | FP32 | any x 4 |",
        "| output y | FP32 | any x 2 |",
        "| latency_p50_ms_batch_1 | 0.33333 | 0.3 to 0.5 (95%) |",
        "- 2 x any, 1024 MiB, GPU: none",
        "- library-0 1.0, torch 2.13.0",
    ):
        assert line in lines, line


def test_a_reason_cannot_break_the_table() -> None:
    assert "| fidelity | pass | 3 \\| 4 lost |" in model_card(draft("digits", "one")).splitlines()


def test_a_source_that_was_not_changed_is_said_so() -> None:
    plain = draft("digits", "one").model_copy(
        update={"recipe": (), "parent_version": None, "calibration_set": None, "batch_invariant": False}
    )
    lines = model_card(plain).splitlines()
    assert "- Recipe: none, the source as it was taken in" in lines
    assert "- Champion it was gated against: none, nothing was live" in lines
    assert "- Calibration set: none" in lines
    assert "- Batch-invariant: no, requests are never batched together" in lines
