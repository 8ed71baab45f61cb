"""A transformer encoder of 6 layers on the digits as 32 tokens, one for every two pixels, their grey values the word.

Shape legend: n samples, t tokens, d features, h heads.
"""

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.nets.base import Net, Training, digits_as, trained
from serving.runtime import Array

_TOKENS, _WORDS = 32, 25
_WIDTH, _HEADS, _HIDDEN, _LAYERS = 128, 4, 256, 6


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers, each behind a layer norm and beside a shortcut."""

    def __init__(self) -> None:
        """Make the layers with random weights."""
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH)
        self.project_in = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.project_out = nn.Linear(_WIDTH, _WIDTH)
        self.norm2 = nn.LayerNorm(_WIDTH)
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _WIDTH))

    def forward(self, x_ntd: Tensor) -> Tensor:
        """Return [n, t, d]."""
        q_ntd, k_ntd, v_ntd = self.project_in(self.norm1(x_ntd)).chunk(3, dim=-1)
        attended_nhtd = nn.functional.scaled_dot_product_attention(_heads(q_ntd), _heads(k_ntd), _heads(v_ntd))
        x_ntd = x_ntd + self.project_out(attended_nhtd.transpose(1, 2).flatten(2))
        return x_ntd + self.mlp(self.norm2(x_ntd))


def _heads(x_ntd: Tensor) -> Tensor:
    return x_ntd.unflatten(2, (_HEADS, -1)).transpose(1, 2)


class EncoderNet(nn.Module):
    """Embedded tokens and positions, 6 layers of 4 heads, the mean of all tokens; 26 million multiply-adds."""

    def __init__(self) -> None:
        """Make the layers with random weights."""
        super().__init__()
        self.words = nn.Embedding(_WORDS, _WIDTH)
        self.positions = nn.Parameter(torch.randn(_TOKENS, _WIDTH))
        self.layers = nn.Sequential(*(EncoderLayer() for _ in range(_LAYERS)))
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits [n, 10] of tokens [n, 32] int64 from 0 to 24."""
        x_ntd = self.layers(self.words(tokens) + self.positions)
        return self.head(self.norm(x_ntd).mean(dim=1))


def _sentence(x_nchw: Array) -> Array:
    """Five grey values a pixel, two pixels a word."""
    pixels = np.rint(4 * x_nchw).astype(np.int64).reshape(-1, _TOKENS, 2)
    return pixels[..., 0] * 5 + pixels[..., 1]


NET = Net(
    "encoder",
    "tokens",
    build=EncoderNet,
    train=lambda: trained(EncoderNet, _sentence, Training(epochs=12, batch_size=32, learning_rate=1e-3, moves=0)),
    samples=lambda: digits_as(_sentence),
)
