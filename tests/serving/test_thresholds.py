"""Thresholds from validation images, against their definitions."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.stats import beta

from partsynth.core.evaluation.ood import softmax
from partsynth.errors import UserError
from partsynth.serving import thresholds


def drawn(count: int, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a calibrated model, times ``sharpness``, and classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 4))
    labels = np.array([rng.choice(4, p=p) for p in softmax(logits)])
    return logits * sharpness, labels


def test_the_temperature_undoes_overconfidence():
    logits, labels = drawn(4000, sharpness=3.0)
    assert thresholds.fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.1)


def test_without_a_validation_error_the_temperature_stays_within_its_limits():
    logits = np.eye(3) * 5
    assert 1 / thresholds.HOTTEST <= thresholds.fit_temperature(logits, np.arange(3)) < 0.2


def test_the_threshold_rejects_at_most_the_wanted_share_and_lies_between_two_scores():
    scores = np.arange(100.0)
    found = thresholds.fit_unknown(scores, [str(i // 2) for i in range(100)], 0.05)
    assert found.threshold == 95.5 and (found.images.count, found.images.n) == (4, 100)  # ceil(101 * 0.95) = 96
    assert (found.parts.count, found.parts.n) == (2, 50)  # parts 48 and 49: means 96.5 and 98.5


def test_over_draws_the_false_reject_rate_is_at_most_the_wanted_one():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        found = thresholds.fit_unknown(rng.normal(size=60), [str(i) for i in range(60)], 0.1)
        rates.append((rng.normal(size=500) > found.threshold).mean())
    assert 0.08 < np.mean(rates) < 0.105


def test_with_too_few_images_none_of_them_is_rejected():
    found = thresholds.fit_unknown(np.array([1.0, 2.0]), ["a", "b"], 0.05)
    assert found.threshold > 2 and found.images.count == 0


def test_the_interval_is_clopper_and_pearsons():
    found = thresholds.rate_of(3, 40)
    assert found.value == 0.075
    assert (found.low, found.high) == pytest.approx((beta.ppf(0.025, 3, 38), beta.ppf(0.975, 4, 37)))
    assert thresholds.rate_of(0, 10).low == 0


def test_prediction_sets_are_the_split_conformal_ones():
    logits, labels = drawn(200)
    probabilities = softmax(logits)
    found = thresholds.fit_sets(probabilities, labels, 0.9)
    own = np.sort(1 - probabilities[np.arange(200), labels])
    assert found.least == pytest.approx(1 - own[int(np.ceil(201 * 0.9)) - 1], abs=3e-6)
    assert found.covered.count == 181  # ceil(201 * 0.9)
    fresh, truth = drawn(5000, seed=1)
    inside = (softmax(fresh) >= found.least)[np.arange(5000), truth]
    assert 0.86 < inside.mean() < 0.94


def test_too_few_images_for_a_coverage_put_every_class_in_the_set():
    logits, labels = drawn(5)
    assert thresholds.fit_sets(softmax(logits), labels, 0.99).least == 0


def test_a_missing_library_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "crepes", None)
    with pytest.raises(UserError, match=r"crepes is not installed.*partsynth\[serve\]"):
        thresholds.fit_sets(np.full((4, 2), 0.5), np.zeros(4, int), 0.9)


@pytest.mark.parametrize(("n", "rejected"), [(38, 0), (39, 1), (58, 1), (59, 2)])
def test_how_many_images_a_rate_takes(n, rejected):
    assert thresholds.fit_unknown(np.arange(float(n)), [str(i) for i in range(n)], 0.05).images.count == rejected


@pytest.mark.parametrize(("n", "whole"), [(18, True), (19, False)])
def test_how_many_images_a_coverage_takes(n, whole):
    logits, labels = drawn(n)
    assert (thresholds.fit_sets(softmax(logits), labels, 0.95).least == 0) == whole
