"""Energy: -logsumexp(logits) (Liu et al. 2020, arXiv 2010.03759, eq. 4, T = 1)."""

from __future__ import annotations

from partsynth.core.evaluation.ood import Array, Known, Score, Scorer, logsumexp


def fit(known: Known) -> Scorer:
    def score(features: Array, logits: Array) -> Array:
        return -logsumexp(logits)

    return score


MEMBER = Score("energy", "energy", fit)
