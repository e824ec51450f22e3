"""Figures of merit and their intervals: arrays in, floats out, every one a fraction in [0, 1] unless said otherwise.

OOD figures take ``inside`` and ``outside``: scores of in- and out-of-distribution pictures, higher = more OOD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def placements(inside: Array, outside: Array) -> Array:
    """(n_outside,) for each OOD picture the share of ID pictures that score below it, equal scores counting half."""
    inside, outside = _scores(inside, outside)
    inside = np.sort(inside)
    below = np.searchsorted(inside, outside, side="left")
    return (below + np.searchsorted(inside, outside, side="right")) / (2 * len(inside))


def auroc(inside: Array, outside: Array) -> float:
    """P(OOD score > ID score) + P(equal) / 2 (Mann-Whitney); the mean placement."""
    return float(placements(inside, outside).mean())


def average_precision(positive: Array, negative: Array) -> float:
    """Sum over thresholds of (recall step) x precision; ``positive`` should score higher. Equal scores are one step."""
    positive, negative = _scores(positive, negative)
    values = np.concatenate([positive, negative])
    hit = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    order = np.argsort(-values, kind="stable")
    values, hit = values[order], hit[order]
    last = np.append(values[1:] != values[:-1], True)  # the end of each run of equal scores
    found, taken = np.cumsum(hit)[last], np.flatnonzero(last) + 1
    return float((np.diff(found, prepend=0) / len(positive) * found / taken).sum())


def aupr_in(inside: Array, outside: Array) -> float:
    """Area under precision-recall with the in-distribution pictures as positives."""
    return average_precision(-np.asarray(inside), -np.asarray(outside))


def aupr_out(inside: Array, outside: Array) -> float:
    """Area under precision-recall with the OOD pictures as positives."""
    return average_precision(outside, inside)


def threshold(inside: Array, recall: float) -> float:
    """The smallest ID score such that accepting everything up to it keeps at least ``recall`` of the ID pictures."""
    inside = np.sort(np.asarray(inside, dtype=np.float64))
    return float(inside[max(math.ceil(recall * len(inside) - 1e-9), 1) - 1])


def accepted(inside: Array, outside: Array, recall: float = 0.95) -> Array:
    """(n_outside,) whether each OOD picture passes for ID; a score equal to the threshold passes."""
    inside, outside = _scores(inside, outside)
    return outside <= threshold(inside, recall)


def fpr(inside: Array, outside: Array, recall: float = 0.95) -> float:
    """FPR@95: share of OOD pictures accepted at the threshold that keeps ``recall`` of the ID pictures."""
    return float(accepted(inside, outside, recall).mean())


def roc(inside: Array, outside: Array, grid: Array) -> Array:
    """Share of ID pictures kept where ``grid`` (ascending, in [0, 1]) is the share of OOD pictures accepted.

    Linear between the thresholds (equal scores: the chord), so that the area below is the AUROC.
    """
    inside, outside = _scores(inside, outside)
    cuts = np.unique(np.concatenate([inside, outside]))
    false = np.searchsorted(np.sort(outside), cuts, side="right") / len(outside)
    true = np.searchsorted(np.sort(inside), cuts, side="right") / len(inside)
    false, true = np.append(0.0, false), np.append(0.0, true)
    # np.interp wants ascending abscissae: vertical steps lean left by less than any picture's share
    lean = 1e-12 * np.arange(len(false))[::-1]
    return np.interp(grid, false - lean, true)


def _scores(inside: Array, outside: Array) -> tuple[Array, Array]:
    pair = np.asarray(inside, dtype=np.float64), np.asarray(outside, dtype=np.float64)
    for name, values in zip(("in-distribution", "out-of-distribution"), pair, strict=True):
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{name} scores have the shape {values.shape}, expected (n,) with n >= 1")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} scores are not finite")
    return pair


def accuracy(true: Sequence, predicted: Sequence) -> float:
    return float((np.asarray(true) == np.asarray(predicted)).mean())


def macro_f1(true: Sequence, predicted: Sequence) -> float:
    """Mean over the classes that occur (as truth or prediction) of 2 TP / (2 TP + FP + FN)."""
    true, predicted = np.asarray(true), np.asarray(predicted)
    values = []
    for name in np.union1d(true, predicted):
        is_true, is_predicted = true == name, predicted == name
        values.append(2 * (is_true & is_predicted).sum() / (is_true.sum() + is_predicted.sum()))
    return float(np.mean(values))


def ece(confidence: Array, correct: Array, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3): equal-width bins (a, b] over [0, 1]."""
    confidence, correct = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(index, correct, bins) - np.bincount(index, confidence, bins)
    return float(np.abs(gap).sum() / len(confidence))
