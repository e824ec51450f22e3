"""ViM: scaled norm of the residual minus logsumexp(logits) (Wang et al. 2022, arXiv 2203.10807, eq. 5-7).

It keeps d = min(D, N) // 2 principal directions (the paper's D / 2 for small D), so that the known images always leave
a residual to scale by.
"""

from __future__ import annotations

import numpy as np

from partsynth.core.evaluation.ood import Array, Known, Score, Scorer, logsumexp


def residual_space(known: Known) -> tuple[Array, Array, float]:
    """The new origin (D,), the residual directions (D, D - d) and the scale of the residual's norm."""
    count, dims = known.features.shape
    origin = -np.linalg.pinv(known.weight) @ known.bias  # (D,)
    moved = known.features - origin
    _, vectors = np.linalg.eigh(moved.T @ moved / count)  # ascending eigenvalues
    residual = vectors[:, : dims - min(dims, count) // 2]  # (D, D - d)
    left = np.linalg.norm(moved @ residual, axis=1).mean()
    alpha = (known.features @ known.weight.T + known.bias).max(axis=1).mean() / max(left, 1e-12)
    return origin, residual, float(alpha)


def fit(known: Known) -> Scorer:
    origin, residual, alpha = residual_space(known)

    def score(features: Array, logits: Array) -> Array:
        return alpha * np.linalg.norm((features - origin) @ residual, axis=1) - logsumexp(logits)

    return score


MEMBER = Score("vim", "ViM", fit)
