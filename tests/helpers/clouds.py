"""Feature clouds with classes and groups, in place of images."""

from __future__ import annotations

import numpy as np

from partsynth.core.drift.distances import Bank


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def cloud(rng: np.random.Generator, kinds: int = 3, groups: int = 6, each: int = 2, spread: float = 0.3) -> Bank:
    centres = np.random.default_rng(7).normal(size=(kinds, 16))
    features, classes, names = [], [], []
    for c in range(kinds):
        for g in range(groups):
            part = centres[c] + spread * rng.normal(size=16)
            for i in range(each):
                features.append(part + 0.1 * spread * rng.normal(size=16))
                classes.append(f"class{c}")
                names.append(f"class{c}/{g}/{i}")
    groups_of = [n.rsplit("/", 1)[0] for n in names]
    return Bank(unit(np.array(features)), np.array(names), np.array(classes), np.array(groups_of))
