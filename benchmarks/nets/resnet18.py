"""ResNet-18 for images of 224 x 224 with random weights: there is nothing to be right about, only latency.

Shape legend: n samples, c channels, h height, w width.

Source: He et al., Deep residual learning for image recognition, CVPR 2016, table 1.
"""

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.nets.base import Net, Samples
from serving.runtime import Array

_CLASSES = 1000
_CALIBRATION, _EVALUATION = 32, 64
_MARGIN = 0.05
"""Of 64 samples, none may be lost: 59 are needed to tell at a margin of 5 points and alpha .05."""


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        """Make the layers; the shortcut is a 1x1 convolution where the shape changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return relu(layers + shortcut)."""
        y_nchw = torch.relu(self.bn1(self.conv1(x_nchw)))
        return torch.relu(self.bn2(self.conv2(y_nchw)) + self.shortcut(x_nchw))


class ResNet18(nn.Module):
    """A stem, eight blocks of 64 to 512 channels, a linear head; 1.8 billion multiply-adds."""

    def __init__(self) -> None:
        """Make the layers with random weights."""
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        )
        widths = (64, 128, 256, 512)
        blocks: list[nn.Module] = []
        for c_in, c_out in zip((64, *widths), widths, strict=False):
            blocks += [Block(c_in, c_out, 1 if c_out == widths[0] else 2), Block(c_out, c_out, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], _CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [n, 1000] of images [n, 3, 224, 224] float32."""
        features_nchw = self.blocks(self.stem(image))
        return self.head(features_nchw.mean(dim=(2, 3)))


def random_resnet18() -> nn.Module:
    """Return the net with random weights, its batch norms used to the random images."""
    torch.manual_seed(0)
    net = ResNet18().train()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    with torch.no_grad():
        for seed in range(4):
            net(torch.from_numpy(random_images(16, seed=100 + seed)))
    return net.eval()


def random_images(count: int, *, seed: int) -> Array:
    """Return smooth random images, [count, 3, 224, 224] float32 of about unit variance: patches, some noise."""
    random = np.random.default_rng(seed)
    patches = random.normal(size=(count, 3, 14, 14)).repeat(16, axis=2).repeat(16, axis=3)
    return np.asarray(patches + 0.3 * random.normal(size=patches.shape), dtype=np.float32)


NET = Net(
    "resnet18",
    "image",
    build=ResNet18,
    train=random_resnet18,
    samples=lambda: Samples(random_images(_CALIBRATION, seed=1), random_images(_EVALUATION, seed=2), None),
    small=False,
    config={"metric": "cosine", "margin": _MARGIN},
)
