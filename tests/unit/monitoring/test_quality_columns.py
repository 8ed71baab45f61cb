"""The figures that the data checks look at."""

import numpy as np

from monitoring.quality_columns import DIGEST, LABEL, sample_digests, samples_frame


def test_a_row_holds_the_figures_of_a_sample() -> None:
    image = np.array([[[0.0, 1.0]], [[-3.0, np.nan]], [[np.inf, 2.0]]], dtype=np.float32)
    frame = samples_frame({"image": image})
    assert frame["image:datatype"].tolist() == ["float32"] * 3
    assert frame["image:shape"].tolist() == ["[1, 2]"] * 3
    assert frame["image:min"].tolist() == [0, -3, 2]
    assert frame["image:max"].tolist() == [1, -3, 2]
    assert frame["image:not finite"].tolist() == [0, 1, 1]


def test_many_samples_are_seen_to_the_last() -> None:
    values = np.arange(1000.0).reshape(1000, 1)
    assert samples_frame({"x": values})["x:max"].tolist() == values[:, 0].tolist()


def test_digests_are_equal_where_all_inputs_are() -> None:
    a, b = np.array([[1, 2], [1, 2], [1, 2]]), np.array([0.0, 0.0, 1.0])
    first, second, third = sample_digests({"a": a, "b": b})
    assert first == second != third
    assert sample_digests({"b": b, "a": a}) == [first, second, third]


def test_class_labels_stand_in_a_column_and_targets_have_figures() -> None:
    x = np.zeros((2, 1))
    assert samples_frame({"x": x}, np.array([3, 4]))[LABEL].tolist() == [3, 4]
    targets = samples_frame({"x": x}, np.array([0.5, np.nan]))
    assert LABEL not in targets
    assert targets["label:not finite"].tolist() == [0, 1]


def test_no_sample_gives_no_row() -> None:
    frame = samples_frame({"image": np.zeros((0, 1, 8, 8), dtype=np.float32)})
    assert len(frame) == 0
    assert DIGEST in frame
