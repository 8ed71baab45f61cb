"""Evidently reports on real digits: as they are, with noise, and with less contrast."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from burnish.examples.digits import Images, load_digits_split
from monitoring.drift import HTML_FILE, JSON_FILE, Reference, drift_report
from monitoring.request_log import Window
from registry.errors import InputError
from registry.records.observation import DriftReport

EVALUATION = load_digits_split().evaluation_x
REFERENCE, SERVED = EVALUATION[::2], EVALUATION[1::2]


def logits(images: Images) -> npt.NDArray[np.float32]:
    """A classifier without training: ten fixed directions."""
    size = images[0].size
    directions = np.random.default_rng(0).standard_normal((size, 10)).astype(np.float32)
    return images.reshape(len(images), -1) @ directions


def captured(images: Images) -> Window:
    images = images.astype(np.float32)
    count = len(images)
    return Window(
        inputs={"image": images},
        outputs={"logits": logits(images)},
        request_ids=tuple(f"r{place // 2}" for place in range(count)),
        rows=np.arange(count) % 2,
        timestamps_ms=np.arange(count),
        versions=np.ones(count, dtype=np.int64),
    )


def report(images: Images, folder: Path, *, outputs: bool = True) -> DriftReport:
    reference = Reference({"image": REFERENCE}, {"logits": logits(REFERENCE)} if outputs else {})
    return drift_report(model="digits", version=1, reference=reference, current=captured(images), folder=folder)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drift")


@pytest.fixture(scope="module")
def unchanged(pages: Path) -> DriftReport:
    return report(SERVED, pages)


def test_the_same_kind_of_images_has_not_drifted(unchanged: DriftReport) -> None:
    assert not unchanged.drifted
    assert unchanged.share_drifted < 0.3
    assert (unchanged.samples, unchanged.requests) == (449, 225)


def test_the_report_names_column_method_score_and_threshold(unchanged: DriftReport, pages: Path) -> None:
    methods = {column.column: column.method for column in unchanged.columns}
    assert methods["image:mean"] == "ks"
    assert methods["logits:class"] == "two_sample_chisquare"
    assert "image:not finite" not in methods  # one and the same value on both sides
    assert all(column.drifted == (column.score < column.threshold) for column in unchanged.columns)
    counted = sum(column.drifted for column in unchanged.columns) / len(unchanged.columns)
    assert unchanged.share_drifted == pytest.approx(counted)
    assert "plotly" in (pages / HTML_FILE).read_text(encoding="utf-8")
    assert len(json.loads((pages / JSON_FILE).read_text(encoding="utf-8"))["metrics"]) == len(unchanged.columns) + 1


def test_noisy_images_have_drifted(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, SERVED.shape)
    found = report(np.clip(SERVED + noise, 0, 1).astype(np.float32), tmp_path)
    assert found.drifted
    assert "logits:class" in {column.column for column in found.columns}


def test_images_of_half_the_contrast_have_drifted_also_without_the_outputs_of_the_reference(tmp_path: Path) -> None:
    found = report((SERVED * 0.5).astype(np.float32), tmp_path, outputs=False)
    assert found.drifted
    assert all(column.column.startswith("image:") for column in found.columns)


def test_too_few_samples_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="37 samples captured, need at least 100: send more traffic or raise BURNISH_"):
        report(SERVED[:37], tmp_path)


def test_samples_of_another_size_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'image' has 64 values a sample in the evaluation set and 32"):
        drift_report(
            model="digits",
            version=1,
            reference=Reference({"image": REFERENCE}),
            current=captured(SERVED.reshape(-1, 1, 4, 8)),
            folder=tmp_path,
        )
