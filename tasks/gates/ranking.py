"""How well an output ranks items: [samples, items] scores, the largest first."""

import numpy as np
import numpy.typing as npt

from serving.runtime import Array

DEPTH = 10
"""Ranks that count. Source: the cut-off of the BEIR and MS MARCO leaderboards."""

Floats = npt.NDArray[np.float64]


def ndcg(output: Array, relevance: Array) -> Floats:
    """Return each sample's normalized discounted cumulative gain at 10, in [0, 1].

    A sample without a relevant item scores 1, whatever its order. Items of one score stand in the order given.

    Args:
        output: [samples, items], the scores to rank by.
        relevance: [samples, items] >= 0, or [samples] indices of the one relevant item.

    Source: Jarvelin and Kekalainen, Cumulated gain-based evaluation of IR techniques, ACM TOIS 20 (2002).
    """
    if relevance.ndim == 1:
        relevance = np.arange(output.shape[1]) == relevance[:, None]
    gains = relevance.astype(np.float64)
    found = _discounted(np.take_along_axis(gains, _best(output), axis=1))
    ideal = _discounted(np.take_along_axis(gains, _best(gains), axis=1))
    return np.where(ideal > 0, np.minimum(found / np.where(ideal > 0, ideal, 1), 1), 1.0)


def kept(output: Array, reference: Array) -> Floats:
    """Return the share of each sample's best items by the reference that are also among the best by the output.

    The best are ten, or half of the items where those are fewer than twenty: all of few items would always be kept.

    Args:
        output: [samples, items].
        reference: [samples, items].
    """
    depth = min(DEPTH, max(1, output.shape[1] // 2))
    ours, theirs = _best(output)[:, :depth], _best(reference)[:, :depth]
    return np.asarray((ours[:, :, None] == theirs[:, None, :]).any(axis=2).mean(axis=1), dtype=np.float64)


def _best(scores: Array) -> npt.NDArray[np.intp]:
    """[samples, at most 10] indices, the largest first."""
    return np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :DEPTH]


def _discounted(gains: Floats) -> Floats:
    return np.asarray(gains @ (1 / np.log2(np.arange(gains.shape[1]) + 2)), dtype=np.float64)
