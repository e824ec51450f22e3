"""Limits of a window of new images: how often images like the validation ones leave them, and what leaves them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from partsynth.core.drift.window import Baseline, design_effect, fit

CLASSES, D, ALARM = 6, 24, 0.05


class World:
    """Classes with parts of their own, and images of those parts: features of unit length, as the encoder's are."""

    def __init__(self, seed: int, alike: float = 0.6, tails: float = np.inf) -> None:
        self.rng = np.random.default_rng(seed)
        self.centres = self.rng.normal(size=(CLASSES, D)) * 1.5
        self.scale = np.geomspace(1.0, 0.2, D)
        self.tails = tails  # degrees of freedom: few = now and then an image far from all others
        self.alike = alike  # share of the variance that the part decides

    def images(self, parts: int, views: int, classes: np.ndarray | None = None, shift: float = 0.0):
        """Features, class indices and part names; ``parts`` of each class, or one of each of ``classes``."""
        kinds = np.repeat(np.arange(CLASSES), parts) if classes is None else classes
        part = self.rng.normal(size=(len(kinds), D)) * np.sqrt(self.alike)
        own = self.rng.normal(size=(len(kinds), views, D)) * np.sqrt(1 - self.alike)
        if np.isfinite(self.tails):
            own /= np.sqrt(self.rng.chisquare(self.tails, (len(kinds), views, 1)) / self.tails)
        found = self.centres[kinds][:, None] + (part[:, None] + own) * self.scale
        found[..., 0] += shift
        found = found.reshape(-1, D)
        names = [f"part{i}" for i in range(len(kinds)) for _ in range(views)]
        return found / np.linalg.norm(found, axis=1, keepdims=True), np.repeat(kinds, views), names

    def baseline(self) -> Baseline:
        train, classes, _ = self.images(8, 2)
        val, val_classes, groups = self.images(6, 2)
        return fit(train, classes, val, val_classes, groups)


def alarmed(baseline: Baseline, features: np.ndarray, classes: np.ndarray) -> bool:
    means = baseline.standardised(features, classes).mean(axis=0)
    return bool((np.abs(means) > baseline.limits(classes, ALARM)).any())


@pytest.mark.parametrize(
    ("alike", "views", "mix", "images", "tails"),
    [
        (0.0, 1, None, 48, np.inf),
        (0.6, 2, None, 48, np.inf),  # two images of each part
        (0.6, 2, [0.6, 0.4, 0, 0, 0, 0], 48, np.inf),  # an hour of two classes only
        (0.0, 1, [1, 0, 0, 0, 0, 0], 200, np.inf),  # of one
        (0.6, 2, None, 400, np.inf),
        (0.3, 2, None, 48, 3),  # with outliers
    ],
)
def test_images_like_the_validation_ones_are_alarmed_at_most_as_often_as_is_stated(alike, views, mix, images, tails):
    """Training images, validation images and window are drawn anew each time: 600 worlds from fixed seeds."""
    worlds, alarms = 600, 0
    for seed in range(worlds):
        world = World(seed, alike, tails)
        baseline = world.baseline()
        kinds = world.rng.choice(CLASSES, images // views, p=mix)
        features, classes, _ = world.images(0, views, kinds)
        alarms += alarmed(baseline, features, classes)
    assert alarms <= binom.ppf(0.999, worlds, ALARM)
    if mix is None:
        assert alarms >= binom.ppf(0.001, worlds, ALARM / 10)  # nor are the limits far too wide


def test_a_planted_shift_is_found():
    found = []
    for seed in range(50):
        world = World(seed)
        baseline = world.baseline()
        features, classes, _ = world.images(0, 2, world.rng.choice(CLASSES, 60), shift=1.2)
        found.append(alarmed(baseline, features, classes))
    assert np.mean(found) > 0.95


def test_a_strong_shift_is_found_in_a_window_of_one_class_alone():
    found = []
    for seed in range(50):
        world = World(seed)
        baseline = world.baseline()
        features, classes, _ = world.images(0, 2, np.full(30, seed % CLASSES), shift=3)
        found.append(alarmed(baseline, features, classes))
    assert np.mean(found) > 0.9


def test_another_mix_of_classes_changes_the_limits_and_not_the_standardised():
    world = World(0)
    baseline = world.baseline()
    features, classes, _ = world.images(3, 2)
    one = classes == 2
    whole, part = baseline.standardised(features, classes), baseline.standardised(features[one], classes[one])
    assert np.array_equal(whole[one], part)
    assert (baseline.limits(classes[one], ALARM) > baseline.limits(np.repeat(np.arange(CLASSES), 1), ALARM)).all()
    assert (baseline.limits(classes, 0.001) > baseline.limits(classes, 0.1)).all()


def test_a_class_without_validation_images_is_not_compared():
    world = World(1)
    train, classes, _ = world.images(8, 2)
    val, val_classes, groups = world.images(6, 2)
    kept = val_classes != 4
    baseline = fit(train, classes, val[kept], val_classes[kept], [g for g, k in zip(groups, kept, strict=True) if k])
    features, kinds, _ = world.images(2, 1)
    assert np.array_equal(np.isnan(baseline.standardised(features, kinds)).all(axis=1), kinds == 4)


def test_what_is_written_is_read_back():
    world = World(2)
    baseline = world.baseline()
    again = Baseline.from_json(baseline.as_json())
    features, classes, _ = world.images(4, 2)
    assert np.abs(again.standardised(features, classes) - baseline.standardised(features, classes)).max() < 1e-3
    assert again.limits(classes, ALARM) == pytest.approx(baseline.limits(classes, ALARM), rel=1e-3)
    assert again.columns == ["distance", *(f"direction_{i}" for i in range(1, 9))]


def test_the_design_effect_is_that_of_groups_of_equal_images():
    values = np.random.default_rng(0).normal(size=30)
    assert design_effect(np.repeat(values, 3), np.repeat(np.arange(30), 3)) == pytest.approx(3)
    assert design_effect(np.random.default_rng(1).normal(size=90), np.repeat(np.arange(30), 3)) < 1.5
    assert design_effect(values, np.arange(30)) == 1
