"""Confidence intervals of means over runs, over runs crossed with clusters of images, and correction for several tests.

A figure varies with the run (seed, replicate) and with the parts that happened to be photographed. An interval over
runs alone speaks of these parts only; one over both speaks of other parts, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from partsynth.core.evaluation.metrics import Array


class Estimate(NamedTuple):
    """A mean with its two-sided interval, and the p-value of its being 0; None where nothing can be said of them."""

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def within(self, least: float, most: float) -> Estimate:
        """The interval without what lies beyond the values that the figure can have."""
        if self.low is None or self.high is None:
            return self
        return self._replace(low=max(self.low, least), high=min(self.high, most))


@dataclass(frozen=True)
class Side:
    """Images whose weighted mean the figure is, in every run alike; an AUROC has two, ID and OOD images."""

    runs: Array  # (n,) index of the run
    clusters: Array  # (n,) what an image belongs to: one physical part, one unseen variant; shared by runs
    values: Array  # (n,) float
    weights: Array  # (n,) float; of one run they sum to 1

    @property
    def count(self) -> int:
        """Clusters."""
        return len(np.unique(self.clusters))


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """By Student's t over independent runs; the mean alone where there is one run only."""
    runs = np.asarray(values, dtype=np.float64)
    if len(runs) < 2:
        return Estimate(float(runs.mean()))
    return _student(float(runs.mean()), float(runs.var(ddof=1)) / len(runs), len(runs) - 1, confidence)


def crossed_interval(values: Sequence[float], sides: Sequence[Side], confidence: float = 0.95) -> Estimate:
    """Interval of the mean of ``values`` over runs and, at the same time, over the clusters of each side.

    Variances of a two-way layout with random runs and random clusters: Var = V_runs + sum over sides of
    max(V_clusters - V_interaction, 0), and Satterthwaite's degrees of freedom (Obuchowski & Rockette 1995; Hillis 2007,
    Statistics in Medicine 26, 596-619, for readers crossed with cases). Clusters need not be of one size, nor in every
    run; of one that is in a single run nothing is added, as runs vary by it already. With a single run the clusters
    alone are told, with no side (or sides of a single cluster) the runs alone.

    Parameters
    ----------
    values : of each run, the figure itself
    sides : with runs counted as in ``values``
    """
    theta, runs = np.asarray(values, dtype=np.float64), len(values)
    mean = float(theta.mean())
    terms = [(float(theta.var(ddof=1)) / runs, runs - 1)] if runs > 1 else []
    for side in sides:
        if side.count > 1:
            added, removed, df = _of_side(side, runs)
            if added > removed:
                terms.append((added - removed, df))
    if not terms:
        return Estimate(mean)
    variance = math.fsum(term for term, _ in terms)
    if variance <= 0:
        return _student(mean, 0.0, 1, confidence)
    freedom = variance**2 / math.fsum(term**2 / df for term, df in terms)
    return _student(mean, variance, freedom, confidence)


def _of_side(side: Side, runs: int) -> tuple[float, float, int]:
    """(variance by clusters with their interaction, variance by interaction alone, clusters - 1)."""
    _, cluster = np.unique(side.clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    cell = (side.runs, cluster)
    weight, total = np.zeros((runs, count)), np.zeros((runs, count))  # by run and cluster
    np.add.at(weight, cell, side.weights)
    np.add.at(total, cell, side.weights * side.values)
    present = weight > 0
    # what each cell moves the estimate by, once its run's own level is taken off
    off = total - weight * total.sum(1, keepdims=True) / weight.sum(1, keepdims=True)
    moved = off / runs
    in_runs = present.sum(0)
    across = off.sum(0) / np.maximum(weight.sum(0), 1e-300)  # (count,) a cluster's own level
    residual = (off - weight * across) / runs
    # a level from m runs takes 1/m of the interaction with it
    unbiased = np.where(in_runs > 1, in_runs / np.maximum(in_runs - 1, 1), 0.0)
    interaction = (residual**2).sum(0) * unbiased + np.where(in_runs == 1, (moved**2).sum(0), 0.0)
    if runs == 1:  # nothing tells the two apart: all of it is the clusters'
        interaction = np.zeros(count)
    scale = count / (count - 1)
    return float(scale * (moved.sum(0) ** 2).sum()), float(scale * interaction.sum()), count - 1


def _student(mean: float, variance: float, freedom: float, confidence: float) -> Estimate:
    from scipy.stats import t

    error = math.sqrt(variance)
    half = float(t.ppf((1 + confidence) / 2, freedom)) * error
    p = float(2 * t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Estimate(mean, mean - half, mean + half, p)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Each hypothesis's p-value such that all of them together err with at most the level (Holm 1979)."""
    order = sorted(p_values, key=lambda name: p_values[name])
    found, highest = {}, 0.0
    for rank, name in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[name]))
        found[name] = highest
    return {name: found[name] for name in p_values}
