"""Figures of merit: arrays in, floats out, every one a fraction in [0, 1].

OOD figures take ``inside`` and ``outside``: scores of in- and out-of-distribution images, higher = more OOD. What
scikit-learn computes is scikit-learn's; here are the conventions, and what it does not have.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray


def placements(inside: ArrayLike, outside: ArrayLike) -> Array:
    """(n_outside,) for each OOD image the share of ID images that score below it, equal scores counting half."""
    inside, outside = _scores(inside, outside)
    inside = np.sort(inside)
    below = np.searchsorted(inside, outside, side="left")
    return (below + np.searchsorted(inside, outside, side="right")) / (2 * len(inside))


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """P(OOD score > ID score) + P(equal) / 2 (Mann-Whitney); the mean placement.

    Not scikit-learn's sum of trapezoids: their last digit moves figures that lie half-way between two rounded ones, and
    intervals are made of placements.
    """
    return float(placements(inside, outside).mean())


def auroc_difference_variance(one: tuple[ArrayLike, ArrayLike], other: tuple[ArrayLike, ArrayLike]) -> float:
    """Variance of the difference of two scores' AUROC on the same images (DeLong et al. 1988, eq. 4, for a contrast).

    Parameters
    ----------
    one, other : each score's values of the ID images and of the OOD images, in one order of images; NaN where there are
        fewer than two of either
    """
    pairs = [_scores(*one), _scores(*other)]
    outside = placements(*pairs[0]) - placements(*pairs[1])
    inside = placements(*reversed(pairs[0])) - placements(*reversed(pairs[1]))
    if min(len(inside), len(outside)) < 2:
        return math.nan
    return float(outside.var(ddof=1) / len(outside) + inside.var(ddof=1) / len(inside))


def aupr_in(inside: ArrayLike, outside: ArrayLike) -> float:
    """Average precision with the in-distribution images as positives; equal scores are one step."""
    from sklearn.metrics import average_precision_score

    inside, outside = _scores(inside, outside)
    return float(average_precision_score(*_labelled(-outside, -inside)))


def aupr_out(inside: ArrayLike, outside: ArrayLike) -> float:
    """Average precision with the OOD images as positives; equal scores are one step."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_labelled(*_scores(inside, outside))))


def threshold(inside: ArrayLike, recall: float) -> float:
    """The smallest ID score such that accepting everything up to it keeps at least ``recall`` of the ID images."""
    inside = np.sort(np.asarray(inside, dtype=np.float64))
    return float(inside[max(math.ceil(recall * len(inside) - 1e-9), 1) - 1])


def accepted(inside: ArrayLike, outside: ArrayLike, recall: float = 0.95) -> Array:
    """(n_outside,) whether each OOD image passes for ID; a score equal to the threshold passes."""
    inside, outside = _scores(inside, outside)
    return outside <= threshold(inside, recall)


def fpr(inside: ArrayLike, outside: ArrayLike, recall: float = 0.95) -> float:
    """FPR@95: share of OOD images accepted at the threshold that keeps ``recall`` of the ID images."""
    return float(accepted(inside, outside, recall).mean())


def roc(inside: ArrayLike, outside: ArrayLike, grid: Array) -> Array:
    """Share of ID images kept where ``grid`` (ascending, in [0, 1]) is the share of OOD images accepted.

    Linear between the thresholds (equal scores: the chord), so that the area below is the AUROC.
    """
    from sklearn.metrics import roc_curve

    inside, outside = _scores(inside, outside)
    false, true, _ = roc_curve(*_labelled(-outside, -inside), drop_intermediate=False)
    # np.interp wants ascending abscissae: vertical steps lean left by less than any image's share
    lean = 1e-12 * np.arange(len(false))[::-1]
    return np.interp(grid, false - lean, true)


def _labelled(negative: Array, positive: Array) -> tuple[Array, Array]:
    """(labels, scores) as scikit-learn takes them."""
    return np.repeat([0, 1], [len(negative), len(positive)]), np.concatenate([negative, positive])


def _scores(inside: ArrayLike, outside: ArrayLike) -> tuple[Array, Array]:
    pair = np.asarray(inside, dtype=np.float64), np.asarray(outside, dtype=np.float64)
    for name, values in zip(("in-distribution", "out-of-distribution"), pair, strict=True):
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{name} scores have the shape {values.shape}, expected (n,) with n >= 1")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} scores are not finite")
    return pair


def accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    return float((np.asarray(true) == np.asarray(predicted)).mean())


def balanced_accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the classes that occur of the share of their images that are found (recall)."""
    from sklearn.metrics import recall_score

    true, predicted = np.asarray(true), np.asarray(predicted)
    return float(recall_score(true, predicted, labels=np.unique(true), average="macro"))


def macro_f1(true: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the classes that occur (as truth or prediction) of 2 TP / (2 TP + FP + FN)."""
    from sklearn.metrics import f1_score

    return float(f1_score(np.asarray(true), np.asarray(predicted), average="macro"))


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3): equal-width bins (a, b] over [0, 1]."""
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, correct, bins) - np.bincount(index, confidence, bins)
    return float(np.abs(gap).sum() / len(confidence))
