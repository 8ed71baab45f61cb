"""Handwritten digits: real images from scikit-learn, a small residual CNN, and how to train it.

Shape legend: n samples, c channels, h height, w width, k classes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

CLASSES = 10
EPOCHS = 30
_BATCH_SIZE = 64
_LEARNING_RATE = 3e-3
_LABEL_SMOOTHING = 0.1
_SPLIT_SEED = 0

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The 1797 images in three parts that share no image, each with every digit in its share.

    Images are [n, 1, 8, 8] float32 in [0, 1]; labels are [n] int64 from 0 to 9.
    """

    train_x: Images
    train_y: Labels
    calibration_x: Images
    evaluation_x: Images
    evaluation_y: Labels


def load_digits_split() -> Split:
    """Return 719 training, 180 calibration and 898 evaluation images; the same ones every time."""
    data = load_digits()
    x_nchw = (data.images / 16.0).astype(np.float32)[:, np.newaxis]
    y_n = data.target.astype(np.int64)
    rest_x, evaluation_x, rest_y, evaluation_y = train_test_split(
        x_nchw, y_n, test_size=898, stratify=y_n, random_state=_SPLIT_SEED
    )
    train_x, calibration_x, train_y, _ = train_test_split(
        rest_x, rest_y, test_size=180, stratify=rest_y, random_state=_SPLIT_SEED
    )
    return Split(train_x, train_y, calibration_x, evaluation_x, evaluation_y)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        """Make the layers; the shortcut is a 1x1 convolution where the shape changes."""
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return relu(body + shortcut)."""
        return torch.relu(self.body(x_nchw) + self.shortcut(x_nchw))


class DigitsNet(nn.Module):
    """A residual CNN for 8x8 images: eight convolutions of 32 and 64 channels, 3.3 million multiply-adds."""

    def __init__(self) -> None:
        """Make the layers with random weights."""
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks = nn.Sequential(ResidualBlock(32, 32), ResidualBlock(32, 64, stride=2), ResidualBlock(64, 64))
        self.head = nn.Linear(64, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [n, k] of images [n, 1, 8, 8] float32 in [0, 1]."""
        features_nchw = self.blocks(self.stem(image))
        return self.head(features_nchw.mean(dim=(2, 3)))


def train_digits(seed: int = 0, *, corrupted_labels: float = 0.0, epochs: int = EPOCHS) -> DigitsNet:
    """Train a network on the training images, in evaluation mode; the same seed gives the same network.

    Args:
        seed: of the weights, the order of the images and which labels are corrupted.
        corrupted_labels: the share of training labels that are replaced by a wrong digit.
        epochs: passes over the training images.
    """
    split = load_digits_split()
    return _fit(split.train_x, _corrupt(split.train_y, corrupted_labels, seed), seed, epochs)


def train(window_inputs: Mapping[str, npt.NDArray[np.generic]], window_labels: Labels, seed: int) -> nn.Module:
    """Train on the training images and on what was served lately: the retraining entry of this example.

    Args:
        window_inputs: captured requests by input name; ``image`` is [n, 1, 8, 8] float32.
        window_labels: the true digit of each captured image, [n].
        seed: of the weights and the order of the images.
    """
    split = load_digits_split()
    x_nchw = np.concatenate([split.train_x, window_inputs["image"].astype(np.float32)])
    y_n = np.concatenate([split.train_y, window_labels.astype(np.int64)])
    return _fit(x_nchw, y_n, seed, EPOCHS)


def predict_digits(net: nn.Module, x_nchw: Images) -> Labels:
    """Return the most likely digit of each image, [n]."""
    with torch.inference_mode():
        logits_nk: Tensor = net(torch.from_numpy(x_nchw))
    return logits_nk.argmax(dim=1).numpy()


def _corrupt(y_n: Labels, share: float, seed: int) -> Labels:
    if not 0 <= share <= 1:
        raise ValueError(f"corrupted_labels is a share between 0 and 1, got {share}")
    random = np.random.default_rng(seed)
    wrong = random.choice(len(y_n), size=round(share * len(y_n)), replace=False)
    corrupted = y_n.copy()
    corrupted[wrong] = (y_n[wrong] + random.integers(1, CLASSES, size=len(wrong))) % CLASSES
    return corrupted


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch and use one thread, then put both back.

    Sums over threads differ in their last bits; and so small a network gains nothing from a second thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _fit(x_nchw: Images, y_n: Labels, seed: int, epochs: int) -> DigitsNet:
    x, y = torch.from_numpy(x_nchw), torch.from_numpy(y_n)
    with _reproducible(seed):
        net = DigitsNet().train()
        steps = epochs * -(-len(x) // _BATCH_SIZE)
        optimizer = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_LEARNING_RATE, total_steps=steps)
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(_BATCH_SIZE):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(x[batch]), y[batch], label_smoothing=_LABEL_SMOOTHING)
                loss.backward()
                optimizer.step()
                schedule.step()
    return net.eval()
