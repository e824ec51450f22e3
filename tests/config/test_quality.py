from __future__ import annotations

import pytest

from partsynth.config.quality import TOLERANCE, Quality


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, TOLERANCE),
        ({"tolerance": 0.0}, 0.0),
        ({"calibration": "views"}, 0.0),  # as these projects were judged
        ({"calibration": "pictures"}, 0.0),
        ({"calibration": "pictures", "tolerance": 2.5}, 2.5),
    ],
)
def test_the_tolerance_of_a_calibration(params, expected):
    assert Quality(**params).tolerated == expected
