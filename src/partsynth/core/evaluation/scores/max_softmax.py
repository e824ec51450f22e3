"""Max softmax: 1 - the largest softmax probability (Hendrycks & Gimpel 2017, arXiv 1610.02136)."""

from __future__ import annotations

from partsynth.core.evaluation.ood import Array, Known, Score, Scorer, unconfidence


def fit(known: Known) -> Scorer:
    def score(features: Array, logits: Array) -> Array:
        return unconfidence(logits)

    return score


MEMBER = Score("max_softmax", "max softmax", fit)
