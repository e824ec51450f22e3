"""Out-of-distribution scores on extracted features: arrays in, arrays out. **Higher = more out of distribution.**

Notation: N fitted and B scored pictures, D features, C classes. Everything is computed in float64.

| score | definition | source |
|---|---|---|
| ``knn`` (headline) | distance to the k-th nearest fitted unit feature | Sun et al. 2022, arXiv 2204.06507, eq. 2 |
| ``max_softmax`` | 1 - the largest softmax probability | Hendrycks & Gimpel 2017, arXiv 1610.02136 |
| ``energy`` | -logsumexp(logits) | Liu et al. 2020, arXiv 2010.03759, eq. 4, T = 1 |
| ``mahalanobis`` | squared distance to the nearest class mean, tied covariance | Lee et al. 2018, arXiv 1807.03888 |
| ``relative_mahalanobis`` | the same less that under one background Gaussian | Ren et al. 2021, arXiv 2106.09022 |
| ``vim`` | scaled residual norm less logsumexp(logits) | Wang et al. 2022, arXiv 2203.10807, eq. 5-7 |
| ``prototype_cosine`` | 1 - the largest cosine to a class mean of unit features | Snell et al. 2017, with a cosine |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

SCORES = ("knn", "max_softmax", "energy", "mahalanobis", "relative_mahalanobis", "vim", "prototype_cosine")


def unit(features: Array) -> Array:
    """Rows scaled to length 1; a zero row (a dead ReLU layer) stays zero instead of becoming NaN."""
    features = np.asarray(features, dtype=np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def logsumexp(logits: Array) -> Array:
    top = logits.max(axis=1, keepdims=True)
    return (top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))[:, 0]


def softmax(logits: Array) -> Array:
    logits = np.asarray(logits, dtype=np.float64)
    return np.exp(logits - logsumexp(logits)[:, None])


@dataclass(frozen=True)
class Gaussian:
    """Means (K, D) that share one precision matrix (D, D)."""

    means: Array
    precision: Array

    def distances(self, features: Array) -> Array:
        """Squared Mahalanobis distances (B, K)."""
        mapped = features @ self.precision  # (B, D)
        cross = mapped @ self.means.T  # (B, K)
        own = np.einsum("kd,kd->k", self.means @ self.precision, self.means)
        return np.einsum("bd,bd->b", mapped, features)[:, None] - 2 * cross + own


@dataclass(frozen=True)
class Detectors:
    """What the scores need to know of the fitted pictures; make it with ``fit``."""

    bank: Array  # (N, D) unit features
    labels: Array  # (N,) class indices
    prototypes: Array  # (C, D) unit means of the unit features
    classes: Gaussian
    background: Gaussian
    origin: Array  # (D,) ViM's new origin
    residual: Array  # (D, D - d) ViM's residual space
    alpha: float  # ViM's scale


def fit(features: Array, labels: Array, weight: Array, bias: Array, shrink: bool = True) -> Detectors:
    """Fit every score to in-distribution pictures.

    Parameters
    ----------
    features : (N, D) what the linear classifier sees.
    labels : (N,) class indices in [0, C), every class present.
    weight, bias : (C, D) and (C,), the linear classifier's.
    shrink : Ledoit-Wolf covariances (Ledoit & Wolf 2004), needed where N is not far above D; False = empirical ones.

    Notes
    -----
    ViM keeps d = min(D, N) // 2 principal directions (the paper's D / 2 for small D), so that the fitted pictures
    always leave a residual to scale by.

    Raises
    ------
    ValueError
        on shapes that do not fit, non-finite features, or a class without pictures.
    """
    features, weight, bias = (np.asarray(a, dtype=np.float64) for a in (features, weight, bias))
    labels = np.asarray(labels)
    count, dims = features.shape
    if weight.shape != (len(bias), dims) or labels.shape != (count,):
        raise ValueError(f"features {features.shape}, labels {labels.shape}, weight {weight.shape}, bias {bias.shape}")
    if not np.isfinite(features).all():
        raise ValueError("the fitted features are not finite")
    present = np.unique(labels)
    if present.tolist() != list(range(len(bias))):
        raise ValueError(f"{len(bias)} classes, but the fitted pictures show {present.tolist()}")

    bank = unit(features)
    one_hot = np.eye(len(bias))[labels]  # (N, C)
    size = one_hot.sum(axis=0)[:, None]
    means = one_hot.T @ features / size
    overall = features.mean(axis=0, keepdims=True)

    origin = -np.linalg.pinv(weight) @ bias
    moved = features - origin
    _, vectors = np.linalg.eigh(moved.T @ moved / count)  # ascending eigenvalues
    residual = vectors[:, : dims - min(dims, count) // 2]
    left = np.linalg.norm(moved @ residual, axis=1).mean()
    alpha = (features @ weight.T + bias).max(axis=1).mean() / max(left, 1e-12)

    return Detectors(
        bank=bank,
        labels=labels,
        prototypes=unit(one_hot.T @ bank / size),
        classes=Gaussian(means, _precision(features - means[labels], shrink)),
        background=Gaussian(overall, _precision(features - overall, shrink)),
        origin=origin,
        residual=residual,
        alpha=float(alpha),
    )


def _precision(centred: Array, shrink: bool) -> Array:
    from sklearn.covariance import empirical_covariance, ledoit_wolf

    if shrink:
        covariance, _ = ledoit_wolf(centred, assume_centered=True)
    else:
        covariance = empirical_covariance(centred, assume_centered=True)
    return np.linalg.pinv(covariance, hermitian=True)


def neighbours(detectors: Detectors, features: Array, k: int) -> tuple[Array, Array]:
    """The k nearest fitted pictures of each scored one.

    Returns
    -------
    distances : (B, k) Euclidean on the unit sphere, in [0, 2], ascending: column k - 1 is the kNN score for that k.
    labels : (B, k) their class indices.
    """
    if not 1 <= k <= len(detectors.bank):
        raise ValueError(f"k = {k} neighbours of {len(detectors.bank)} fitted pictures")
    squared = 2 - 2 * unit(features) @ detectors.bank.T  # (B, N)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.maximum(np.take_along_axis(squared, order, axis=1), 0)), detectors.labels[order]


def vote(labels: Array, classes: int) -> Array:
    """(B,) majority class of (B, k) neighbours; a tie goes to the class whose neighbour comes first."""
    counts = (labels[:, :, None] == np.arange(classes)).sum(axis=1)  # (B, C)
    tied = np.take_along_axis(counts, labels, axis=1) == counts.max(axis=1, keepdims=True)  # (B, k)
    return np.take_along_axis(labels, tied.argmax(axis=1)[:, None], axis=1)[:, 0]


def scores(detectors: Detectors, features: Array, logits: Array, k: int) -> dict[str, Array]:
    """Every score of ``SCORES`` for B pictures, each (B,)."""
    features, logits = np.asarray(features, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    energy = -logsumexp(logits)
    nearest = detectors.classes.distances(features).min(axis=1)
    others = np.sort(softmax(logits), axis=1)[:, :-1].sum(axis=1)  # 1 - max, without its cancellation near 1
    return {
        "knn": neighbours(detectors, features, k)[0][:, -1],
        "max_softmax": others,
        "energy": energy,
        "mahalanobis": nearest,
        "relative_mahalanobis": nearest - detectors.background.distances(features)[:, 0],
        "vim": detectors.alpha * np.linalg.norm((features - detectors.origin) @ detectors.residual, axis=1) + energy,
        "prototype_cosine": 1 - (unit(features) @ detectors.prototypes.T).max(axis=1),
    }
