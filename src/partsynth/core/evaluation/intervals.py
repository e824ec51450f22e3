"""Confidence intervals of means over seeds and over clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from partsynth.core.evaluation.metrics import Array


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None, float | None]:
    """(mean, low, high) by Student's t over independent runs; low and high are None where there is one run only."""
    from scipy.stats import t

    runs = np.asarray(values, dtype=np.float64)
    mean, count = float(runs.mean()), len(runs)
    if count < 2:
        return mean, None, None
    half = float(t.ppf((1 + confidence) / 2, count - 1) * runs.std(ddof=1) / math.sqrt(count))
    return mean, mean - half, mean + half


def cluster_interval(
    values: Array, clusters: ArrayLike, seed: int, confidence: float = 0.95, draws: int = 2000
) -> tuple[float | None, float | None, int]:
    """Percentile interval of the mean of ``values`` (n,) under resampling of whole clusters, and their number.

    Cluster bootstrap (Davison & Hinkley 1997, section 3.8, strategy 1): clusters drawn with replacement, all
    their images kept. With one cluster there is nothing to resample: None.
    """
    values = np.asarray(values, dtype=np.float64)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return None, None, len(names)
    total, size = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    means = drawn @ total / (drawn @ size)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high), len(names)
