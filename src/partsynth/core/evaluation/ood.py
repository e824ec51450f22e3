"""What out-of-distribution scores share: arrays in, arrays out. **Higher = more out of distribution.**

Notation: N known (training) and B scored images, D features, C classes. Everything is computed in float64. A score is
one file in ``scores``, with a ``Score`` as its ``MEMBER``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray
Scorer = Callable[[Array, Array], Array]
"""Features (B, D) and logits (B, C) -> scores (B,), both float64."""


@dataclass(frozen=True)
class Score:
    """An OOD score."""

    name: str
    """A column of the predictions."""
    title: str
    """A row of the report."""
    fit: Callable[[Known], Scorer]
    """Makes the scorer from what is known of the distribution."""
    always: bool = True
    """Whether every evaluation tells it; otherwise it is told where the parameters name it."""
    tuned: bool = False
    """Whether a number of it is chosen on OOD validation images, which flatters its AUROC on them."""


@dataclass(frozen=True)
class Known:
    """In-distribution images and the linear probe on them: what scores are fitted to; make it with ``known``."""

    features: Array  # (N, D)
    labels: Array  # (N,) class indices
    weight: Array  # (C, D)
    bias: Array  # (C,)
    k: int  # of nearest neighbours, chosen on validation images
    shrink: bool  # Ledoit-Wolf covariances, not empirical ones
    held_out: tuple[Array, Array] | None = None  # features (V, D) and labels (V,) of in-distribution validation images
    families: Array | None = None  # (C,) what classes are pooled by, integers; None = each is alone

    @property
    def one_hot(self) -> Array:
        """(N, C)"""
        return np.eye(len(self.bias))[self.labels]

    @property
    def sizes(self) -> Array:
        """(C, 1) images per class."""
        return self.one_hot.sum(axis=0)[:, None]

    @cached_property
    def bank(self) -> Array:
        """(N, D) unit features."""
        return unit(self.features)

    @cached_property
    def typical(self) -> Array:
        """(C,) median kNN distance of the validation images of each class's family, at least 1e-6.

        A family without validation images has the median of all; where there are none at all, it is 1.
        """
        families = np.arange(len(self.bias)) if self.families is None else self.families
        if self.held_out is None or not len(self.held_out[0]):
            return np.ones(len(families))
        features, labels = self.held_out
        distance = neighbours(self, features, self.k)[0][:, -1]  # (V,)
        own = families[labels]
        medians = [np.median(distance[own == f] if (own == f).any() else distance) for f in families]
        return np.maximum(medians, 1e-6)

    @cached_property
    def classes(self) -> Gaussian:
        """One Gaussian per class, with a tied covariance."""
        means = self.one_hot.T @ self.features / self.sizes  # (C, D)
        return Gaussian(means, precision(self.features - means[self.labels], self.shrink))

    @cached_property
    def background(self) -> Gaussian:
        """One Gaussian for all."""
        mean = self.features.mean(axis=0, keepdims=True)  # (1, D)
        return Gaussian(mean, precision(self.features - mean, self.shrink))


def known(
    features: ArrayLike,
    labels: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    k: int = 1,
    shrink: bool = True,
    held_out: tuple[ArrayLike, ArrayLike] | None = None,
    families: ArrayLike | None = None,
) -> Known:
    """What scores are fitted to, checked.

    Parameters
    ----------
    features : (N, D) what the linear probe sees.
    labels : (N,) class indices in [0, C), every class present.
    weight, bias : (C, D) and (C,), the linear probe's.
    k : nearest neighbours, at most N.
    shrink : Ledoit-Wolf covariances (Ledoit & Wolf 2004), needed where N is not far above D; False = empirical ones.
    held_out : features (V, D) and labels (V,) of in-distribution validation images, for scores that compare with them.
    families : (C,) integers: classes of one number are compared with their common validation images.

    Raises
    ------
    ValueError
        on shapes that do not fit, non-finite features, or a class without images.
    """
    features, weight, bias = (np.asarray(a, dtype=np.float64) for a in (features, weight, bias))
    labels = np.asarray(labels)
    count, dims = features.shape
    if weight.shape != (len(bias), dims) or labels.shape != (count,):
        raise ValueError(f"features {features.shape}, labels {labels.shape}, weight {weight.shape}, bias {bias.shape}")
    if not np.isfinite(features).all():
        raise ValueError("the known features are not finite")
    present = np.unique(labels)
    if present.tolist() != list(range(len(bias))):
        raise ValueError(f"{len(bias)} classes, but the known images show {present.tolist()}")
    kept = None if held_out is None else (np.asarray(held_out[0], dtype=np.float64), np.asarray(held_out[1]))
    if kept is not None and kept[0].shape != (len(kept[1]), dims):
        raise ValueError(f"validation features {kept[0].shape}, labels {kept[1].shape}")
    pooled = None if families is None else np.asarray(families)
    if pooled is not None and pooled.shape != (len(bias),):
        raise ValueError(f"{len(bias)} classes, families {pooled.shape}")
    return Known(features, labels, weight, bias, k, shrink, kept, pooled)


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


def precision(centred: Array, shrink: bool) -> Array:
    """(D, D) inverse covariance of centred features (N, D)."""
    from sklearn.covariance import empirical_covariance, ledoit_wolf

    if shrink:
        covariance, _ = ledoit_wolf(centred, assume_centered=True)
    else:
        covariance = empirical_covariance(centred, assume_centered=True)
    return np.linalg.pinv(covariance, hermitian=True)


def unit(features: ArrayLike) -> Array:
    """Rows scaled to length 1; a zero row (a dead ReLU layer) stays zero instead of becoming NaN."""
    features = np.asarray(features, dtype=np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def logsumexp(logits: Array) -> Array:
    """(B,)"""
    top = logits.max(axis=1, keepdims=True)
    return (top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))[:, 0]


def softmax(logits: ArrayLike) -> Array:
    """(B, C)"""
    logits = np.asarray(logits, dtype=np.float64)
    return np.exp(logits - logsumexp(logits)[:, None])


def unconfidence(logits: ArrayLike) -> Array:
    """(B,) 1 - the largest softmax probability, without its cancellation near 1."""
    return np.sort(softmax(logits), axis=1)[:, :-1].sum(axis=1)


def neighbours(known: Known, features: ArrayLike, k: int) -> tuple[Array, Array]:
    """The k nearest known images of each scored one.

    Returns
    -------
    distances : (B, k) Euclidean on the unit sphere, in [0, 2], ascending: column k - 1 is the kNN score for that k.
    labels : (B, k) their class indices.

    Raises
    ------
    ValueError
        where k is not in [1, N].
    """
    if not 1 <= k <= len(known.bank):
        raise ValueError(f"k = {k} neighbours of {len(known.bank)} known images")
    squared = 2 - 2 * unit(features) @ known.bank.T  # (B, N)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.maximum(np.take_along_axis(squared, order, axis=1), 0)), known.labels[order]


def vote(labels: Array, classes: int) -> Array:
    """(B,) majority class of (B, k) neighbours; a tie goes to the class whose neighbour comes first."""
    counts = (labels[:, :, None] == np.arange(classes)).sum(axis=1)  # (B, C)
    tied = np.take_along_axis(counts, labels, axis=1) == counts.max(axis=1, keepdims=True)  # (B, k)
    return np.take_along_axis(labels, tied.argmax(axis=1)[:, None], axis=1)[:, 0]
