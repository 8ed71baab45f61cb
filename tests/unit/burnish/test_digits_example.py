"""The digits example: its split and its network."""

import numpy as np
import pytest
import torch

from burnish.examples import digits
from burnish.examples.digits import Split, load_digits_split, predict_digits, train_digits


@pytest.fixture(scope="module")
def split() -> Split:
    return load_digits_split()


@pytest.fixture(scope="module")
def trained() -> digits.DigitsNet:
    return train_digits(0, epochs=6)


def test_the_three_parts_share_no_image_and_hold_every_digit(split: Split) -> None:
    parts = (split.train_x, split.calibration_x, split.evaluation_x)
    assert [part.shape for part in parts] == [(719, 1, 8, 8), (180, 1, 8, 8), (898, 1, 8, 8)]
    assert all(part.dtype == np.float32 and part.min() == 0 and part.max() == 1 for part in parts)
    keys = [{image.tobytes() for image in part} for part in parts]
    assert sum(map(len, keys)) == len(set.union(*keys))
    assert set(split.train_y) == set(split.evaluation_y) == set(range(10))


def test_the_split_is_the_same_every_time(split: Split) -> None:
    again = load_digits_split()
    assert np.array_equal(split.train_x, again.train_x)
    assert np.array_equal(split.evaluation_y, again.evaluation_y)


def test_a_trained_network_reads_unseen_digits(split: Split, trained: digits.DigitsNet) -> None:
    assert not trained.training
    assert (predict_digits(trained, split.evaluation_x) == split.evaluation_y).mean() >= 0.97


def test_the_same_seed_gives_the_same_network_and_leaves_the_state_of_torch_alone() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first, second, other = (train_digits(seed, epochs=1).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_corrupted_labels_cost_accuracy(split: Split, trained: digits.DigitsNet) -> None:
    bad = train_digits(0, corrupted_labels=0.5, epochs=6)
    right, wrong = (predict_digits(net, split.evaluation_x) == split.evaluation_y for net in (trained, bad))
    assert wrong.mean() < right.mean() - 0.05


def test_a_corrupted_share_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="share between 0 and 1"):
        train_digits(0, corrupted_labels=1.5)
