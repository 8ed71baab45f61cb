"""A 1-D convolutional net on the digits as a signal of 64 steps, row after row.

Shape legend: n samples, c channels, t steps.
"""

from torch import Tensor, nn

from benchmarks.nets.base import Net, Training, digits_as, trained
from serving.runtime import Array


class SignalNet(nn.Module):
    """Five convolutions of 32 to 128 channels with batch norms, 2.3 million multiply-adds."""

    def __init__(self) -> None:
        """Make the layers with random weights."""
        super().__init__()
        self.layers = nn.Sequential(
            *_layer(1, 32, kernel=9, stride=1),
            *_layer(32, 64, kernel=5, stride=2),
            *_layer(64, 64, kernel=5, stride=1),
            *_layer(64, 128, kernel=5, stride=2),
            *_layer(128, 128, kernel=3, stride=1),
        )
        self.head = nn.Linear(128, 10)

    def forward(self, series: Tensor) -> Tensor:
        """Return logits [n, 10] of signals [n, 1, 64] float32."""
        features_nct = self.layers(series)
        return self.head(features_nct.mean(dim=2))


def _layer(c_in: int, c_out: int, *, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv1d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm1d(c_out), nn.ReLU()


def _series(x_nchw: Array) -> Array:
    return x_nchw.reshape(-1, 1, 64)


NET = Net(
    "conv1d",
    "series",
    build=SignalNet,
    train=lambda: trained(SignalNet, _series, Training(epochs=40)),
    samples=lambda: digits_as(_series),
)
