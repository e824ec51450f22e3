"""Prototype cosine: 1 - the largest cosine to a class mean of unit features (Snell et al. 2017, with a cosine)."""

from __future__ import annotations

from partsynth.core.evaluation.ood import Array, Known, Score, Scorer, unit


def fit(known: Known) -> Scorer:
    prototypes = unit(known.one_hot.T @ known.bank / known.sizes)  # (C, D)

    def score(features: Array, logits: Array) -> Array:
        return 1 - (unit(features) @ prototypes.T).max(axis=1)

    return score


MEMBER = Score("prototype_cosine", "prototype cosine", fit)
