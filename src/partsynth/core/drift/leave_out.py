"""Which training image a real image is taken to come from, so that it is measured without that one's group.

An edit is measured without the group of its source: its distances come from one group fewer than there are. A real
image of no training group is comparable with it only where it loses a group as well. ``drawn`` takes that group as an
edit's source is taken, whatever the image looks like, so that a real image and the images that calibrate are
exchangeable (Vovk et al. 2005, ch. 2). ``nearest`` takes the most alike: distances grow, so calibration is lenient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from partsynth.core.drift.distances import Bank


def drawn(names: Sequence[str] | np.ndarray, classes: np.ndarray, bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    """Name and group (n,) of a training image of each image's own class, drawn by the image's own name.

    Every training image is as likely as any other, so a group is by its number of images. An image's draw depends on
    its own name and on its class's training images alone.
    """
    chosen = []
    for name, kind in zip(names, classes, strict=True):
        members = np.flatnonzero(bank.classes == kind)
        number = int.from_bytes(hashlib.sha256(f"left out: {name}".encode()).digest()[:8], "big")
        chosen.append(members[number % len(members)])
    picked = np.array(chosen, dtype=np.int64)
    return bank.names[picked], bank.groups[picked]


def nearest(features: np.ndarray, classes: np.ndarray, bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    """Name and group (n,) of the training image of each image's own class that its features (n, D) are nearest to."""
    likeness = np.where(classes[:, None] == bank.classes[None], features @ bank.features.T, -np.inf)
    picked = likeness.argmax(axis=1)
    return bank.names[picked], bank.groups[picked]
