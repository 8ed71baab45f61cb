"""Which columns stand for narrow tensors, wide tensors and classifier outputs."""

import numpy as np

from monitoring.drift_columns import PROJECTIONS, WIDE, to_columns


def test_narrow_inputs_stand_for_themselves() -> None:
    inputs = {"x": np.arange(6.0).reshape(3, 2), "age": np.array([1, 2, 3])}
    columns = to_columns(inputs, {}).numerical
    assert columns["x[1]"].tolist() == [1, 3, 5]
    assert columns["age"].tolist() == [1, 2, 3]
    assert set(columns) == {"x[0]", "x[1]", "age", "x:not finite", "age:not finite"}


def test_wide_inputs_cost_the_same_number_of_columns_at_any_size() -> None:
    small, large = (
        to_columns({"image": np.random.default_rng(0).random((4, size))}, {}).numerical for size in (WIDE + 1, 5000)
    )
    assert list(small) == list(large)
    assert sum("projection" in name for name in small) == PROJECTIONS
    assert all(column.shape == (4,) for column in large.values())


def test_summaries_are_those_of_each_sample() -> None:
    image = np.zeros((2, 1, 6, 6), dtype=np.float32)
    image[1, 0, :, ::2] = 1
    columns = to_columns({"image": image}, {}).numerical
    assert columns["image:mean"].tolist() == [0, 0.5]
    assert columns["image:max"].tolist() == [0, 1]
    assert columns["image:step"].tolist() == [0, 1]


def test_projections_are_the_same_in_every_process_and_see_what_moved() -> None:
    image = np.random.default_rng(0).random((3, 64))
    first, again, moved = (to_columns({"x": values}, {}).numerical for values in (image, image, image[:, ::-1]))
    assert np.array_equal(first["x:projection 0"], again["x:projection 0"])
    assert np.allclose(first["x:mean"], moved["x:mean"])
    assert not np.allclose(first["x:projection 0"], moved["x:projection 0"])
    alone = to_columns({"x": image[:1]}, {}).numerical["x:projection 0"][0]
    assert np.isclose(first["x:projection 0"][0], alone)


def test_values_that_are_not_finite_are_counted_apart() -> None:
    columns = to_columns({"x": np.array([[1.0, np.nan], [np.inf, -np.inf]])}, {}).numerical
    assert columns["x:not finite"].tolist() == [1, 2]
    assert columns["x[1]"].tolist() == [0, 0]


def test_classifier_outputs_become_class_and_margin() -> None:
    columns = to_columns({"x": np.zeros(2)}, {"logits": np.array([[1.0, 5.0, 2.0], [4.0, 3.5, 0.0]])})
    assert columns.categorical["logits:class"].tolist() == [1, 0]
    assert columns.numerical["logits:margin"].tolist() == [3, 0.5]


def test_other_outputs_are_laid_out_like_inputs() -> None:
    columns = to_columns({"x": np.zeros(2)}, {"score": np.array([[0.5], [0.25]])})
    assert columns.numerical["score"].tolist() == [0.5, 0.25]
    assert not columns.categorical
