"""kNN distance: to the k-th nearest known unit feature (Sun et al. 2022, arXiv 2204.06507, eq. 2)."""

from __future__ import annotations

from partsynth.core.evaluation.ood import Array, Known, Score, Scorer, neighbours


def fit(known: Known) -> Scorer:
    def score(features: Array, logits: Array) -> Array:
        return neighbours(known, features, known.k)[0][:, -1]

    return score


MEMBER = Score("knn", "kNN distance", fit, tuned=True)
