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


def calibrate(bank: Bank, features: np.ndarray, classes: np.ndarray, k: int) -> Calibration:
    """Calibration from the bank's own leave-group-out distances and from real validation images (n, D).

    A class's scale is 1.4826 times its median absolute deviation, its variance averaged with the pooled one, weighted
    n to PRIOR. For each validation image the group of its nearest training image is left out: an edit is measured
    without the part it was made from, its nearest, and has to be compared with real images that lack theirs.
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
    blank = Calibration(centre, np.maximum(scale, 1e-6), np.zeros(0), np.zeros(0))
    names, groups = _nearest(features, classes, bank)
    distances = class_distances(features, names, groups, bank, k)
    return replace(
        blank,
        drift=np.sort(drift_scores(distances, classes, kinds, blank)),
        strangeness=np.sort(strangeness_scores(distances, classes, kinds, blank)),
    )


def _nearest(features: np.ndarray, classes: np.ndarray, bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    """Name and group of the nearest training image of each image's own class."""
    likeness = np.where(classes[:, None] == bank.classes[None], features @ bank.features.T, -np.inf)
    nearest = likeness.argmax(axis=1)
    return bank.names[nearest], bank.groups[nearest]


def _scale(deviation: np.ndarray) -> float:
    return 1.4826 * float(np.median(deviation))


def drift_scores(distances: np.ndarray, classes: np.ndarray, kinds: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Of distances (Q, C): that to the own class (Q,), in its standard deviations from its centre.

    Standardised so, the scores of all classes can be pooled.
    """
    index = np.searchsorted(kinds, classes)
    return (own(distances, classes, kinds) - calibration.centre[index]) / calibration.scale[index]


def strangeness_scores(
    distances: np.ndarray, classes: np.ndarray, kinds: np.ndarray, calibration: Calibration
) -> np.ndarray:
    """Of distances (Q, C): how much nearer another class is than the own (Q,), in the own's standard deviations."""
    index = np.searchsorted(kinds, classes)
    return -nearest_and_margin(distances, classes, kinds)[1] / calibration.scale[index]


def conformal_percentiles(scores: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """(r + 1) / (n + 1), r = how many of the n calibration scores are <= the score: in [1 / (n + 1), 1].

    Beyond all calibration scores it is 1. A score exchangeable with the calibration scores exceeds t with a probability
    of at most 1 - t + 1 / (n + 1), whatever their distribution (conformal prediction, Vovk et al. 2005). n counts
    images: where several show one part, the share differs more from draw to draw than n suggests.
    """
    ordered = np.sort(calibration)
    return (np.searchsorted(ordered, scores, side="right") + 1) / (len(ordered) + 1)


def band_scores(low: float, high: float, calibration: np.ndarray) -> tuple[float, float]:
    """Scores from the first (itself included) up to the second have conformal percentiles in (low, high].

    Infinite where an end has no limit.

    Raises
    ------
    ValueError
        where so few calibration scores have no percentile in between.
    """
    ordered = np.sort(calibration)
    grid = (np.arange(len(ordered) + 1) + 1) / (len(ordered) + 1)  # of a score above r calibration scores
    (inside,) = np.nonzero((grid > low) & (grid <= high))
    if not len(inside):
        raise ValueError(f"{len(ordered)} calibration images have no percentile above {low} and at most {high}")
    first, last = inside[0], inside[-1]
    return float(ordered[first - 1] if first else -np.inf), float(ordered[last] if last < len(ordered) else np.inf)
