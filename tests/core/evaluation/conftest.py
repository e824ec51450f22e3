"""A small world of features in which it is known what is out of distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from partsynth.core.evaluation.ood import Known, known
from partsynth.seams import SCORES

CLASSES, DIMS = 4, 16


@dataclass(frozen=True)
class World:
    """400 training images, and 100 in-distribution ones followed by 60 OOD ones to be scored."""

    train: np.ndarray
    labels: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    queries: np.ndarray

    def known(self, **changes) -> Known:
        about = {"features": self.train, "labels": self.labels, "weight": self.weight, "bias": self.bias, "k": 5}
        return known(**about | changes)

    def scores(self, queries: np.ndarray | None = None, logits: np.ndarray | None = None, **changes):
        """Every score of the package by name, each (B,)."""
        queries = self.queries if queries is None else queries
        logits = self.queries @ self.weight.T + self.bias if logits is None else logits
        fitted = self.known(**changes)
        return {name: SCORES[name].fit(fitted)(queries, logits) for name in SCORES}


@pytest.fixture(scope="module")
def world() -> World:
    """Gaussian classes that fill 8 of 16 dimensions, with images from a fifth place off their subspace as OOD."""
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(8, DIMS))
    centres = rng.normal(size=(CLASSES, 8)) * 3

    def draw(n, labels):
        return (centres[labels] + rng.normal(size=(n, 8))) @ basis + 0.3 * rng.normal(size=(n, DIMS))

    labels = np.arange(400) % CLASSES
    train = draw(400, labels)
    weight, bias = rng.normal(size=(CLASSES, DIMS)) / 4, rng.normal(size=CLASSES)
    inside = draw(100, np.arange(100) % CLASSES)
    outside = inside[:60] + 5 * rng.normal(size=(60, DIMS))
    return World(train, labels, weight, bias, np.concatenate([inside, outside]))
