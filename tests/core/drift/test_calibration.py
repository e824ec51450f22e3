from __future__ import annotations

import numpy as np
import pytest
from helpers.clouds import cloud
from hypothesis import given, settings
from hypothesis import strategies as st

from partsynth.core.drift import calibration as drift_calibration
from partsynth.core.drift import leave_out
from partsynth.core.drift.calibration import (
    Calibration,
    band_scores,
    conformal_percentiles,
    drift_scores,
    strangeness_scores,
)
from partsynth.core.drift.distances import Bank, class_distances, own


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.floats(0, 1), st.floats(0, 1))
def test_band_scores_are_where_the_percentiles_lie_in_the_band(values, one, two):
    calibration, low, high = np.array(values, float), min(one, two), max(one, two)
    scores = np.arange(-4.125, 4.25, 0.25)  # none equals a calibration score: those have percentiles of their own
    percentiles = conformal_percentiles(scores, calibration)
    inside = (percentiles > low) & (percentiles <= high)
    try:
        near, far = band_scores(low, high, calibration)
    except ValueError:
        assert not inside.any()
        return
    assert np.array_equal(inside, (scores > near) & (scores < far))


scores = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=0, max_size=50)


@given(scores, scores)
def test_conformal_percentiles(values, calibration):
    values, calibration = np.array(values, float), np.array(calibration, float)
    percentiles = conformal_percentiles(values, calibration)
    n = len(calibration)
    for value, percentile in zip(values, percentiles, strict=True):
        r = sum((c < value) + (c == value) / 2 for c in calibration)
        assert percentile == pytest.approx((r + 1) / (n + 1))
        assert 0 < percentile <= 1
        if n and value > calibration.max():
            assert percentile == 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(percentiles[order]) >= 0).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([9, 19, 60]), st.sampled_from([0.8, 0.95]))
def test_false_alarms_stay_within_the_promise(seed, n, threshold):
    """Among n + 1 exchangeable scores at most (1 - t)(n + 1), rounded up, exceed t: a promise for any distribution."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.3, size=n + 1)
    alarms = [conformal_percentiles(values[i : i + 1], np.delete(values, i))[0] > threshold for i in range(n + 1)]
    assert sum(alarms) <= np.ceil((1 - threshold) * (n + 1) - 1e-9)


def calibrated(bank: Bank, held_out: Bank, k: int = 3) -> Calibration:
    return drift_calibration.calibrate(bank, held_out.features, held_out.classes, k, left_out(held_out, bank))


def left_out(held_out: Bank, bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    return leave_out.drawn([f"new/{name}" for name in held_out.names], held_out.classes, bank)


def test_scores_are_comparable_across_classes():
    """One class five times as wide as the others: its held-out parts must not be the only ones beyond a threshold."""
    rng = np.random.default_rng(3)
    wide, narrow = cloud(rng, 1, 30, 1, 0.5), cloud(rng, 3, 30, 1, 0.1)
    keep = narrow.classes != "class0"
    features = np.concatenate([wide.features, narrow.features[keep]])
    classes = np.concatenate([wide.classes, narrow.classes[keep]])
    names = np.concatenate([wide.names, narrow.names[keep]])
    train, val = np.arange(len(names)) % 2 == 0, np.arange(len(names)) % 2 == 1
    bank = Bank(features[train], names[train], classes[train], names[train])
    held_out = Bank(features[val], names[val], classes[val], names[val])
    calibration = calibrated(bank, held_out)
    distances = class_distances(features[val], names[val], names[val], bank, 3)
    to_own = own(distances, classes[val], bank.kinds)
    raw = [np.median(to_own[classes[val] == kind]) for kind in bank.kinds]
    standard = drift_scores(distances, classes[val], bank.kinds, calibration)
    even = [np.median(standard[classes[val] == kind]) for kind in bank.kinds]
    assert max(raw) > 5 * min(raw)
    assert np.ptp(even) < 2
    for scores in (calibration.drift, calibration.strangeness):
        assert len(scores) == val.sum()
        assert (np.diff(scores) >= 0).all()


def test_a_small_class_borrows_the_pooled_scale():
    bank = cloud(np.random.default_rng(5), 4, 12, 1)
    few = (bank.classes != "class0") | np.isin(bank.names, ["class0/0/0", "class0/1/0"])
    small = Bank(bank.features[few], bank.names[few], bank.classes[few], bank.groups[few])
    calibration = calibrated(small, bank)
    assert (calibration.scale > 0).all()
    assert calibration.scale[0] > 0.3 * np.median(calibration.scale[1:])


def test_equal_scores_share_the_middle_of_their_ranks():
    """Ties: a score that equals all others lies in their middle, not beyond them."""
    assert conformal_percentiles(np.array([2.0]), np.full(99, 2.0))[0] == pytest.approx(0.5, abs=0.01)
    assert conformal_percentiles(np.array([2.0]), np.array([1.0, 2.0, 2.0, 3.0]))[0] == pytest.approx(3 / 5)


def test_validation_images_are_measured_as_edits_of_what_they_leave_out():
    bank, held_out = cloud(np.random.default_rng(5)), cloud(np.random.default_rng(6))
    names, groups = left_out(held_out, bank)
    calibration = drift_calibration.calibrate(bank, held_out.features, held_out.classes, 3, (names, groups))
    edits = class_distances(held_out.features, names, groups, bank, 3)
    expected = drift_scores(edits, bank.classes, bank.kinds, calibration)
    np.testing.assert_array_equal(calibration.drift, np.sort(expected))


def test_strangeness_ranks_the_images_of_other_classes_highest():
    bank, held_out, more = (cloud(np.random.default_rng(i)) for i in range(3))
    calibration = calibrated(bank, held_out)
    wrong = np.array([{"class0": "class1", "class1": "class2", "class2": "class0"}[c] for c in more.classes])
    distances = class_distances(more.features, more.names, np.full(len(wrong), "new"), bank, 3)
    for claimed, low, high in ((more.classes, 0, 1), (wrong, 1, 1)):
        scores = strangeness_scores(distances, claimed, bank.kinds, calibration)
        percentiles = conformal_percentiles(scores, calibration.strangeness)
        assert low <= percentiles.min() and percentiles.max() <= high
    assert (strangeness_scores(distances, wrong, bank.kinds, calibration) > 0).all()
