"""Drift in class standard deviations, and its percentile among real images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from partsynth.core.drift.distances import Bank, class_distances, nearest_and_margin, own

PRIOR = 8  # images' worth of trust in the pooled scale: a class of 8 counts its own scale half


@dataclass(frozen=True)
class Calibration:
    """What real parts' distances are like: per class, and the pooled standardised scores of validation images."""

    centre: np.ndarray  # (C,) median leave-group-out distance of a class's training images
    scale: np.ndarray  # (C,) robust standard deviation about it, shrunk to the pooled one
    drift: np.ndarray  # (n,) sorted drift scores
    strangeness: np.ndarray  # (n,) sorted strangeness scores
    least: np.ndarray  # (n,) sorted least drift scores of all classes


def calibrate(
    bank: Bank, features: np.ndarray, classes: np.ndarray, k: int, left_out: tuple[np.ndarray, np.ndarray]
) -> Calibration:
    """Calibration from the bank's own leave-group-out distances and from real validation images (n, D).

    A class's scale is 1.4826 times its median absolute deviation, its variance averaged with the pooled one, weighted
    n to PRIOR.

    Parameters
    ----------
    left_out : names and groups (n,) of the training images that the validation images are taken to come from, and are
        measured without (see ``leave_out``), as an edit is measured without its source's group.
    """
    kinds = bank.kinds
    inside = own(class_distances(bank.features, bank.names, bank.groups, bank, k), bank.classes, kinds)  # (N,)
    index = np.searchsorted(kinds, bank.classes)
    centre = np.array([np.median(inside[index == c]) for c in range(len(kinds))])
    deviation = np.abs(inside - centre[index])
    pooled = _scale(deviation)
    counts = np.bincount(index, minlength=len(kinds))
    within = np.array([_scale(deviation[index == c]) for c in range(len(kinds))])
    scale = np.sqrt((counts * within**2 + PRIOR * pooled**2) / (counts + PRIOR))
    blank = Calibration(centre, np.maximum(scale, 1e-6), np.zeros(0), np.zeros(0), np.zeros(0))
    distances = class_distances(features, *left_out, bank, k)
    return replace(
        blank,
        drift=np.sort(drift_scores(distances, classes, kinds, blank)),
        strangeness=np.sort(strangeness_scores(distances, classes, kinds, blank)),
        least=np.sort(least_scores(distances, blank)),
    )


def _scale(deviation: np.ndarray) -> float:
    return 1.4826 * float(np.median(deviation))


def drift_scores(distances: np.ndarray, classes: np.ndarray, kinds: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Of distances (Q, C): that to the own class (Q,), in its standard deviations from its centre.

    Standardised so, the scores of all classes can be pooled.
    """
    index = np.searchsorted(kinds, classes)
    return (own(distances, classes, kinds) - calibration.centre[index]) / calibration.scale[index]


def least_scores(distances: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Of distances (Q, C): the least of the drift scores from all classes (Q,), each in its own class's standard
    deviations. High where an image lies beyond the edge of every class."""
    return ((distances - calibration.centre) / calibration.scale).min(axis=1)


def strangeness_scores(
    distances: np.ndarray, classes: np.ndarray, kinds: np.ndarray, calibration: Calibration
) -> np.ndarray:
    """Of distances (Q, C): how much nearer another class is than the own (Q,), in the own's standard deviations."""
    index = np.searchsorted(kinds, classes)
    return -nearest_and_margin(distances, classes, kinds)[1] / calibration.scale[index]


def conformal_percentiles(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """(r + 1) / (n + 1), r = how many of the n calibration scores are below the score, equal ones counting half.

    In [1 / (n + 1), 1]; beyond all calibration scores it is 1. A score exchangeable with the calibration scores is
    uniform over that grid where no two are equal, and exceeds t with a probability of at most 1 - t + 1 / (n + 1),
    whatever their distribution (conformal prediction, Vovk et al. 2005). Equal scores share the middle of their ranks:
    where all are equal the percentile is about one half, not 1. n counts images: where several show one part, the
    share differs more from draw to draw than n suggests.
    """
    ordered = np.sort(calibration)
    below, upto = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return (below + (upto - below) / 2 + 1) / (len(ordered) + 1)


def band_scores(low: float, high: float, calibration: np.ndarray) -> tuple[float, float]:
    """Scores between the two, themselves apart, have conformal percentiles in (low, high].

    Infinite where an end has no limit.

    Raises
    ------
    ValueError
        where so few calibration scores have no percentile in between.
    """
    edges = np.unique(calibration)  # between two of them all scores have the same percentile
    begins, ends = np.append(-np.inf, edges), np.append(edges, np.inf)
    grid = (np.searchsorted(np.sort(calibration), ends, side="left") + 1) / (len(calibration) + 1)
    (inside,) = np.nonzero((grid > low) & (grid <= high))
    if not len(inside):
        raise ValueError(f"{len(calibration)} calibration images have no percentile above {low} and at most {high}")
    return float(begins[inside[0]]), float(ends[inside[-1]])
