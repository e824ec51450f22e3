"""kNN distance by class: divided by what is usual among validation images of the predicted class, or of its family.

Classes differ in how wide they lie in features: one threshold for all takes the wide for unknown, and lets strangers
near the narrow ones pass. The quotient is 1 at the median of a class's own validation images, whatever its width.
"""

from __future__ import annotations

from partsynth.core.evaluation.ood import Array, Known, Score, Scorer, neighbours


def fit(known: Known) -> Scorer:
    def score(features: Array, logits: Array) -> Array:
        return neighbours(known, features, known.k)[0][:, -1] / known.typical[logits.argmax(axis=1)]

    return score


MEMBER = Score("knn_by_class", "kNN distance by class", fit, always=False, tuned=True)
