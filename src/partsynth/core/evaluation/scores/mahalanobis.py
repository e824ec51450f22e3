"""Mahalanobis: squared distance to the nearest class mean, tied covariance (Lee et al. 2018, arXiv 1807.03888)."""

from __future__ import annotations

from partsynth.core.evaluation.ood import Array, Known, Score, Scorer


def fit(known: Known) -> Scorer:
    def score(features: Array, logits: Array) -> Array:
        return known.classes.distances(features).min(axis=1)

    return score


MEMBER = Score("mahalanobis", "Mahalanobis", fit)
