"""What scores and limits are made of; that they catch what is wrong is in test_judge.py."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.parts import edges, part
from helpers.rows import augmented, real_row

from partsynth.config.quality import Quality
from partsynth.core.images import stats
from partsynth.quality.measure import Measured
from partsynth.quality.score import EXTREME, INVERSION_MARGIN, TAIL, score

ROWS = [
    real_row(f"{kind}/{i}", split, f"{kind}-{split}-{i}")
    for kind in ("disc", "gear")
    for split, count in (("train", 8), ("val", 6))
    for i in range(count)
]
IMAGES = [part(row.class_name, i) for i, row in enumerate(ROWS)]


def measured(images, source=None) -> Measured:
    thumb = None if source is None else stats.thumbnail(source)
    return Measured(edges(images), stats.stacked([stats.measure(image, thumb) for image in images]))


REAL = measured(IMAGES)


def test_an_edit_is_measured_beside_its_own_class_and_source():
    rows = [augmented(ROWS[0], "copy"), augmented(ROWS[0], "other")]
    scores, _ = score(rows, measured([IMAGES[0], part("gear", 99)], IMAGES[0]), ROWS, REAL, Quality())
    assert list(scores.nearest) == ["disc", "gear"]
    assert scores.similarity[0] == pytest.approx(1) and scores.similarity[1] < 0.9
    assert scores.drift[0] < scores.drift[1] and scores.margin[0] > 0 > scores.margin[1]
    assert scores.percentile[1] == scores.strangeness[1] == 1 and scores.calibration_n == 12


def test_views_calibrate_drift_alone():
    rows, found = [augmented(ROWS[0], "x")], measured([part("disc", 50)])
    views = edges([part("gear", i) for i in range(12)])  # far from the discs: all drift less than they do
    plain, limits = score(rows, found, ROWS, REAL, Quality())
    seen, same = score(rows, found, ROWS, REAL, Quality(), views)
    assert seen.drift == plain.drift and seen.strangeness == plain.strangeness and limits == same
    assert seen.percentile != plain.percentile


def test_limits_are_the_real_images_own_widened():
    _, limits = score([], REAL.take([]), ROWS, REAL, Quality(sharpness_ratio=0.5, brightness_margin=0.1))
    classes = np.array([r.class_name for r in ROWS])
    light = REAL.stats.brightness - np.array([np.median(REAL.stats.brightness[classes == k]) for k in classes])
    low, high = np.quantile(light, [EXTREME, 1 - EXTREME])
    assert limits.brightness == pytest.approx((low - 0.1, high + 0.1))
    logs = np.log(REAL.stats.sharpness + 1e-8)
    logs -= np.array([np.median(logs[classes == k]) for k in classes])
    low, high = np.quantile(logs, [TAIL, 1 - TAIL])
    assert limits.sharpness == pytest.approx((low + np.log(0.5), high - np.log(0.5)))
    assert limits.inversion >= INVERSION_MARGIN
