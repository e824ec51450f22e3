"""Distances of images to classes in reference features.

Features are L2-normalised rows (N, D); classes and groups are arrays of names (N,). The distance of two images is the
cosine distance in [0, 2]; the distance of an image to a class is the mean over its k nearest real training images,
never one of the image's own group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bank:
    """The real training images that distances are measured from."""

    features: np.ndarray  # (N, D)
    names: np.ndarray  # (N,) identities of the images, so that a source can be left out
    classes: np.ndarray  # (N,)
    groups: np.ndarray  # (N,)

    @property
    def kinds(self) -> np.ndarray:
        """The class names, sorted: the order of every (..., C) array below."""
        return np.unique(self.classes)


def class_distances(
    features: np.ndarray,
    names: np.ndarray,
    groups: np.ndarray,
    bank: Bank,
    k: int,
    further: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Distances (Q, C) of images (Q, D) to every class.

    ``names`` (Q,) are the images' sources and ``groups`` (Q,) the sources' groups. All of the group is left out,
    the source with it. Where a class has images of this group alone, the source alone is left out; where it has the
    source alone, nothing is: few-shot classes are measured leniently rather than not at all. ``further``: names and
    groups (Q,) of second sources, left out in the same way; empty ones are none.
    """
    distance = 1 - features.astype(np.float64) @ bank.features.astype(np.float64).T  # (Q, N)
    allowed = groups[:, None] != bank.groups[None]  # (Q, N)
    others = names[:, None] != bank.names[None]
    if further is not None:
        allowed &= further[1][:, None] != bank.groups[None]
        others &= further[0][:, None] != bank.names[None]
    columns = []
    for kind in bank.kinds:
        members = bank.classes == kind
        usable = allowed[:, members]
        usable = np.where(usable.any(1, keepdims=True), usable, others[:, members])
        usable = np.where(usable.any(1, keepdims=True), usable, True)
        nearest = np.sort(np.where(usable, distance[:, members], np.inf), axis=1)[:, :k]  # (Q, <= k)
        found = np.isfinite(nearest)
        columns.append(np.where(found, nearest, 0).sum(1) / found.sum(1))
    return np.maximum(np.stack(columns, axis=1), 0)


def own(values: np.ndarray, classes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Of values (Q, C), each image's own class's (Q,)."""
    return values[np.arange(len(values)), np.searchsorted(kinds, classes)]


def nearest_and_margin(distances: np.ndarray, classes: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest class (Q,) of distances (Q, C), and the distance to the nearest other class minus that to the own (Q,).

    With one class alone the margin is infinite.
    """
    index = np.searchsorted(kinds, classes)
    other = distances.copy()
    other[np.arange(len(distances)), index] = np.inf
    return kinds[np.argmin(distances, axis=1)], other.min(axis=1) - own(distances, classes, kinds)
