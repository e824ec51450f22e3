"""Relative Mahalanobis: Mahalanobis minus that under one background Gaussian (Ren et al. 2021, arXiv 2106.09022)."""

from __future__ import annotations

from partsynth.core.evaluation.ood import Array, Known, Score, Scorer


def fit(known: Known) -> Scorer:
    def score(features: Array, logits: Array) -> Array:
        return known.classes.distances(features).min(axis=1) - known.background.distances(features)[:, 0]

    return score


MEMBER = Score("relative_mahalanobis", "relative Mahalanobis", fit)
