"""Whether a window of new images lies where held-out real images lie, in the features of the frozen reference encoder.

An image's feature is compared with the mean of the training images of its class: how far it lies from it (logarithm of
the distance), and where along the directions in which training images vary most within their classes. Each of these is
told in standard deviations from the mean of the validation images of its class, cut at CUT so that no single image
decides; another mix of classes is no drift. A window's mean of it is 0 but for chance: that of the window's images, and
that of the validation images it is compared with. Images of one part are alike; a design effect (Kish 1965) counts them
for less.

The encoder was trained on neither training nor validation images, so that both are like new images to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from partsynth.core.evaluation.metrics import Array

AXES = 8  # directions
LEAST = 4  # validation images of a class, for its images to be compared
CUT = 4.0  # standard deviations
DIGITS = 6  # of what is written


@dataclass(frozen=True)
class Baseline:
    """What held-out images are like: all of a training version that a window is compared with.

    There are C classes, D features and K directions.
    """

    means: Array  # (C, D) of training images
    axes: Array  # (K, D) unit vectors
    centres: Array  # (K + 1, C) mean value of the validation images of a class
    scale: Array  # (K + 1,) standard deviation of values within classes
    spread: Array  # (K + 1,) the same of standardised values, once they are cut: 1 or less
    effect: Array  # (K + 1,) design effect, 1 or more
    counts: Array  # (C,) validation images that the model takes for a class
    degrees: Array  # () of freedom of spread: parts less classes

    @property
    def columns(self) -> list[str]:
        return ["distance", *(f"direction_{i + 1}" for i in range(len(self.axes)))]

    def standardised(self, features: Array, classes: Array) -> Array:
        """Columns (n, K + 1) of features (n, D) whose classes (n,) the model says; NaN where a class has too few
        validation images to be compared with."""
        values = _values(features, classes, self.means, self.axes)
        found = np.clip((values - self.centres[:, classes].T) / self.scale, -CUT, CUT)
        found[self.counts[classes] < LEAST] = np.nan
        return found

    def limits(self, classes: Array, false_alarm: float) -> Array:
        """How far from 0 the mean of each column (K + 1,) of a window may lie.

        Parameters
        ----------
        classes : (n,) of the window's images that can be compared.
        false_alarm : share of windows of images like the validation ones that may leave the limits in any column; it
            is divided among the columns (Bonferroni).
        """
        from scipy.stats import t

        n = len(classes)
        share = np.bincount(classes, minlength=len(self.counts)) / n
        used = share > 0
        variance = self.effect * (1 / n + (share[used] ** 2 / self.counts[used]).sum())
        return t.ppf(1 - false_alarm / (2 * len(self.spread)), self.degrees) * self.spread * np.sqrt(variance)

    def as_json(self) -> dict[str, Any]:
        return {name: np.round(value, DIGITS).tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Baseline:
        return cls(**{name: np.array(told[name]) for name in cls.__dataclass_fields__})


def fit(train: Array, classes: Array, val: Array, val_classes: Array, groups: Sequence[str]) -> Baseline:
    """The baseline of a training version.

    Parameters
    ----------
    train, classes : features (n, D) of training images, and their class indices; every class from 0 on has some.
    val, val_classes : features (m, D) of validation images, and the classes that the model says.
    groups : (m,) the physical part that each validation image shows.
    """
    count = int(classes.max()) + 1
    means = np.stack([train[classes == c].mean(axis=0) for c in range(count)])
    _, sizes, directions = np.linalg.svd(train - means[classes], full_matrices=False)
    axes = directions[: min(AXES, int((sizes > 1e-6 * sizes[0]).sum()))]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]  # of two signs always the same
    values = _values(val, val_classes, means, axes)
    counts = np.bincount(val_classes, minlength=count)
    sums = np.stack([np.bincount(val_classes, column, minlength=count) for column in values.T])
    centres = sums / np.maximum(counts, 1)
    degrees = max(1, len(val) - int((counts > 0).sum()))
    apart = values - centres[:, val_classes].T
    scale = np.maximum(np.sqrt((apart**2).sum(axis=0) / degrees), 1e-9)
    within = np.clip(apart / scale, -CUT, CUT)
    spread = np.sqrt((within**2).sum(axis=0) / degrees)
    _, part = np.unique(np.asarray(groups), return_inverse=True)
    used = int((counts > 0).sum())
    effect = np.array([design_effect(column, part, used) for column in within.T])
    effect = np.maximum(effect, effect.mean())  # each is uncertain; what is too small alarms too often
    freedom = np.array(max(1, int(part.max()) + 1 - used))
    return Baseline(means, axes, centres, scale, spread, effect, counts, freedom)


def design_effect(values: Array, groups: Array, means: int = 1) -> float:
    """By how much the variance of a mean of values (m,) grows because those of one group (m,) are alike; 1 or more.

    From the intraclass correlation of a one-way analysis of variance.

    Parameters
    ----------
    means : how many means, each of whole groups, were taken off the values.
    """
    sizes = np.bincount(groups)
    total, count = len(values), len(sizes)
    if not means < count < total:
        return 1.0
    each = np.bincount(groups, values) / sizes
    between = (sizes * (each - values.mean()) ** 2).sum() / (count - means)
    inside = ((values - each[groups]) ** 2).sum() / (total - count)
    size = (total - (sizes**2).sum() / total) / (count - 1)
    correlation = (between - inside) / (between + (size - 1) * inside) if between + inside > 0 else 0.0
    return float(1 + (size - 1) * max(0.0, correlation))


def _values(features: Array, classes: Array, means: Array, axes: Array) -> Array:
    """Logarithm of the distance to the class's mean, and place along the axes: (n, K + 1)."""
    apart = features - means[classes]
    return np.column_stack([np.log(np.maximum(np.linalg.norm(apart, axis=1), 1e-6)), apart @ axes.T])
