"""What an exported model decides by, from validation images: temperature, threshold of "unknown", prediction sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partsynth.core.evaluation.ood import Array, softmax
from partsynth.serving.extras import load_extra

HOTTEST = 20.0  # temperatures are sought in [1 / HOTTEST, HOTTEST]: with no validation error there is no best one


@dataclass(frozen=True)
class Rate:
    """``count`` of ``n``, with its Clopper-Pearson interval."""

    count: int
    n: int
    low: float
    high: float
    confidence: float

    @property
    def value(self) -> float:
        return self.count / self.n


@dataclass(frozen=True)
class Unknown:
    """Scores above ``threshold`` are called unknown."""

    threshold: float
    wanted: float  # false-reject rate that was asked for
    images: Rate  # rejected validation images
    parts: Rate  # rejected physical parts (groups of validation images), by the mean score of their images


@dataclass(frozen=True)
class Sets:
    """Classes whose calibrated probability is ``least`` or more are in the prediction set."""

    least: float
    coverage: float  # that was asked for
    covered: Rate  # validation images whose class is in their set: what the threshold was made from
    mean_size: float


def fit_temperature(logits: Array, labels: Array) -> float:
    """The temperature T of softmax(logits / T) with the least cross-entropy (Guo et al. 2017, arXiv 1706.04599).

    Parameters
    ----------
    logits : (n, C) of validation images.
    labels : (n,) their class indices.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        chosen = softmax(logits / math.exp(log_temperature))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-300)).mean())

    limit = math.log(HOTTEST)
    return math.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-6}).x)


def fit_unknown(scores: Array, groups: Sequence[str], rate: float, confidence: float = 0.95) -> Unknown:
    """The lowest threshold that rejects a share of at most ``rate`` of new known images, on average over draws.

    It is the ceil((n + 1)(1 - rate))-th smallest of n validation scores (the split-conformal quantile), or the largest
    where n is too small for that; halfway to the next score above, so that rounding decides nothing.

    Parameters
    ----------
    scores : (n,) OOD scores of real validation images of known classes.
    groups : (n,) the physical part that each shows.
    """
    ordered = np.sort(scores)
    place = min(_quantile(len(scores), 1 - rate), len(scores)) - 1
    higher = ordered[ordered > ordered[place]]
    above = higher[0] if len(higher) else ordered[place] + 1e-3 * max(abs(ordered[place]), 1e-3)
    threshold = float(np.float32((ordered[place] + above) / 2))
    _, part = np.unique(np.asarray(groups), return_inverse=True)
    means = np.bincount(part, scores) / np.bincount(part)
    images = rate_of(int((scores > threshold).sum()), len(scores), confidence)
    return Unknown(threshold, rate, images, rate_of(int((means > threshold).sum()), len(means), confidence))


def fit_sets(probabilities: Array, labels: Array, coverage: float, confidence: float = 0.95) -> Sets:
    """Split conformal prediction sets (Sadinle et al. 2019, LAC) by crepes, with 1 - p(class) as nonconformity.

    A new image that is exchangeable with the validation images has its class in the set with probability ``coverage``
    or more, on average over draws of the validation images.

    Parameters
    ----------
    probabilities : (n, C) calibrated ones of validation images.
    labels : (n,) class indices.

    Raises
    ------
    UserError
        where crepes is not installed.
    """
    crepes = load_extra("crepes")
    own = 1 - probabilities[np.arange(len(labels)), labels]
    fitted = crepes.ConformalClassifier().fit(own)
    inside = np.asarray(fitted.predict_set(own[:, None], confidence=coverage, smoothing=False))[:, 0] == 1
    # a set's limit is one of the nonconformities it was fitted to; all classes are in where there are too few of those
    enough = _quantile(len(own), coverage) <= len(own)
    most = float(own[inside].max()) if enough else 1.0
    least = max(0.0, float(np.float32(1 - most)) - 1e-6)  # a hair lower: float32 rounds
    sets = probabilities >= least
    covered = int(sets[np.arange(len(labels)), labels].sum())
    return Sets(least, coverage, rate_of(covered, len(labels), confidence), float(sets.sum(axis=1).mean()))


def _quantile(n: int, share: float) -> int:
    """ceil((n + 1) share), the place of split conformal prediction's quantile; what is whole but for rounding stays."""
    return math.ceil((n + 1) * share - 1e-9)


def rate_of(count: int, n: int, confidence: float = 0.95) -> Rate:
    """With the exact interval of Clopper & Pearson (1934), which takes the ``n`` as independent."""
    from scipy.stats import binomtest

    found = binomtest(count, n).proportion_ci(confidence, method="exact")
    return Rate(count, n, float(found.low), float(found.high), confidence)
