"""Which images make up each training step: a class-balanced batch, with negative-only images added to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Mix:
    """How a step is filled."""

    batch_size: int  # in-distribution images, always this many
    synthetic_share: float = 0.5  # of a class that has synthetic positives, in [0, 1]
    negatives: int = 0  # negative-only images, added to the batch
    replace_probability: float = 0.0  # a real image gives way to one of its own augmentations (DA-Fusion, 2302.07944)
    views: Literal["crops", "augmentation"] = "crops"  # second view of a real image: itself, or its own augmentation


@dataclass(frozen=True)
class Step:
    """Indices of images: row n of ``first`` and ``second`` (both (N,)) are two views of one sample."""

    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray  # (N,)
    is_negative: np.ndarray  # (N,) bool

    def __len__(self) -> int:
        return len(self.first)

    @property
    def negatives(self) -> np.ndarray:
        """The negative-only samples' first images."""
        return self.first[self.is_negative]

    def part(self, rank: int, processes: int) -> Step:
        """The contiguous share of one process; the step's length must be a multiple of ``processes``."""
        rows = len(self) // processes
        cut = slice(rank * rows, (rank + 1) * rows)
        return Step(self.first[cut], self.second[cut], self.labels[cut], self.is_negative[cut])


class Batches:
    """Draws steps from a fixed set of images.

    Parameters
    ----------
    labels : (n,) class of each image, integers.
    is_negative, is_synthetic : (n,) bool.
    source : (n,) index of the real image that a synthetic one was made from (itself for a real one; -1 = not here).
    mix : how a step is filled. Where a class has no synthetic positives its images are real, and vice versa.
    seed : step k is a function of (seed, k) alone: any step can be drawn again, on any process.
    """

    def __init__(
        self,
        labels: np.ndarray,
        is_negative: np.ndarray,
        is_synthetic: np.ndarray,
        source: np.ndarray,
        mix: Mix,
        seed: int,
    ):
        self.labels, self.mix, self.seed = np.asarray(labels), mix, seed
        index = np.arange(len(self.labels))
        positive = ~is_negative
        self.classes = np.unique(self.labels[positive])
        self._real = {c: index[positive & ~is_synthetic & (self.labels == c)] for c in self.classes}
        self._synthetic = {c: index[positive & is_synthetic & (self.labels == c)] for c in self.classes}
        self._negative = {c: index[is_negative & (self.labels == c)] for c in np.unique(self.labels[is_negative])}
        self._own: dict[int, np.ndarray] = {}  # real image -> its augmentations among the positives
        if mix.replace_probability > 0 or mix.views == "augmentation":
            made = index[positive & is_synthetic]
            self._own = {int(real): made[source[made] == real] for real in np.unique(source[made]) if real >= 0}

    def step(self, number: int) -> Step:
        rng = np.random.default_rng([self.seed, number])
        first = np.concatenate(
            [self._in_distribution(rng, c, k) for c, k in self._quota(rng, self.classes, self.mix.batch_size)]
        )
        if self.mix.replace_probability > 0:
            replaced = rng.random(len(first)) < self.mix.replace_probability
            first = np.array([self._augmentation(rng, i) if r else i for i, r in zip(first, replaced, strict=True)])
        second = first
        if self.mix.views == "augmentation":
            second = np.array([self._augmentation(rng, i) for i in first])
        if self._negative and self.mix.negatives:
            quota = self._quota(rng, np.array(list(self._negative)), self.mix.negatives)
            negatives = np.concatenate([_some(rng, self._negative[c], k) for c, k in quota])
            first, second = np.concatenate([first, negatives]), np.concatenate([second, negatives])
        is_negative = np.arange(len(first)) >= self.mix.batch_size
        return Step(first, second, self.labels[first], is_negative)

    @staticmethod
    def _quota(rng: np.random.Generator, classes: np.ndarray, count: int) -> list[tuple[int, int]]:
        """Equal numbers per class; who gets the remainder is drawn. Classes in random order, none with 0."""
        order = rng.permutation(classes)
        base, rest = divmod(count, len(order))
        return [(c, base + (i < rest)) for i, c in enumerate(order) if base + (i < rest)]

    def _in_distribution(self, rng: np.random.Generator, c: int, count: int) -> np.ndarray:
        real, synthetic = self._real[c], self._synthetic[c]
        wanted = self.mix.synthetic_share * count
        # right on average where a class's share is no whole number
        made = int(wanted) + (rng.random() < wanted % 1)
        if not len(synthetic):
            made = 0
        elif not len(real):
            made = count
        return np.concatenate([_some(rng, real, count - made), _some(rng, synthetic, made)])

    def _augmentation(self, rng: np.random.Generator, index: int) -> int:
        own = self._own.get(int(index))
        return int(index) if own is None else int(rng.choice(own))


def _some(rng: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    """``count`` of ``pool``, each as often as any other, give or take one."""
    if not count:
        return pool[:0]
    rounds = [rng.permutation(pool) for _ in range(-(-count // len(pool)))]
    return np.concatenate(rounds)[:count]
