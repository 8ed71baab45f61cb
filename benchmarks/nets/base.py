"""What a benchmark net is, and how the nets that have data are trained.

Shape legend: n samples; the other axes are the net's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from burnish.examples.digits import Labels, load_digits_split
from serving.runtime import Array

_LABEL_SMOOTHING = 0.1
_THREADS = 1
"""The sums of a training depend on how many threads share them: fixed, so that every machine trains the same net."""


@dataclass(frozen=True)
class Samples:
    """The samples of one net; [n, ...] each."""

    calibration: Array
    evaluation: Array
    labels: Labels | None
    """[n] of the evaluation samples; None where there is nothing to be right about."""


@dataclass(frozen=True)
class Net:
    """One net of the benchmark."""

    name: str
    input_name: str
    """The name of ``forward``'s parameter."""
    build: Callable[[], nn.Module]
    """Make the net with random weights."""
    train: Callable[[], nn.Module]
    """Make the net and train it, in evaluation mode; the same net every time."""
    samples: Callable[[], Samples]
    small: bool = True
    """A valid best-so-far is asked for within seconds."""
    config: Mapping[str, object] = field(default_factory=dict)
    """Fields of the search's configuration beside the benchmark's own: how a net without labels is judged."""


View = Callable[[Array], Array]
"""Makes a net's input of images [n, 1, 8, 8] float32 in [0, 1]."""


def digits_as(view: View) -> Samples:
    """Return the digits as a net takes them."""
    split = load_digits_split()
    return Samples(_plain(view(split.calibration_x)), _plain(view(split.evaluation_x)), split.evaluation_y)


@dataclass(frozen=True)
class Training:
    """How a net is trained."""

    epochs: int
    batch_size: int = 64
    learning_rate: float = 3e-3
    """At its highest."""
    moves: int = 1
    """Pixels by which an image is moved at most, along both axes."""


def trained(build: Callable[[], nn.Module], view: View, how: Training) -> nn.Module:
    """Train a net on the training digits; the same net every time.

    Args:
        build: makes the net with random weights.
        view: the images as the net takes them.
        how: epochs, batch size, learning rate.
    """
    split = load_digits_split()
    y = torch.from_numpy(split.train_y)
    random = np.random.default_rng(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    torch.manual_seed(0)
    net = build().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=how.learning_rate, weight_decay=1e-2)
    steps = how.epochs * -(-len(y) // how.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=how.learning_rate, total_steps=steps)
    for _ in range(how.epochs):
        x = torch.from_numpy(view(_moved(split.train_x, how.moves, random)))
        for batch in torch.randperm(len(y)).split(how.batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x[batch]), y[batch], label_smoothing=_LABEL_SMOOTHING)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    torch.set_num_threads(threads)
    return net.eval()


def _plain(array: Array) -> Array:
    """Return an array with the strides that its shape implies, also on axes of size 1: compiled code counts on it."""
    return array.reshape(-1).reshape(array.shape)


def _moved(x_nchw: Array, most: int, random: np.random.Generator) -> Array:
    """Move each image by up to so many pixels along both axes; what comes in is empty."""
    padded = np.pad(x_nchw, ((0, 0), (0, 0), (most, most), (most, most)))
    top, left = random.integers(0, 2 * most + 1, (2, len(x_nchw)))
    return np.stack([padded[i, :, t : t + 8, s : s + 8] for i, (t, s) in enumerate(zip(top, left, strict=True))])
