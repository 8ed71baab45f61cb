"""Two LSTM layers on the digits as 8 steps of 8 grey values.

Shape legend: n samples, t steps, f features.
"""

from torch import Tensor, nn

from benchmarks.nets.base import Net, Training, digits_as, trained
from serving.runtime import Array

_WIDTH = 128


class RowsNet(nn.Module):
    """Two layers of 128 units and a linear head on the last step; 1.6 million multiply-adds."""

    def __init__(self) -> None:
        """Make the layers with random weights."""
        super().__init__()
        self.lstm = nn.LSTM(8, _WIDTH, num_layers=2, batch_first=True)
        self.head = nn.Linear(_WIDTH, 10)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits [n, 10] of images [n, 8, 8] float32, a row a step."""
        states_ntf, _ = self.lstm(rows)
        return self.head(states_ntf[:, -1])


def _rows(x_nchw: Array) -> Array:
    return x_nchw[:, 0]


NET = Net(
    "lstm",
    "rows",
    build=RowsNet,
    train=lambda: trained(RowsNet, _rows, Training(epochs=60)),
    samples=lambda: digits_as(_rows),
)
