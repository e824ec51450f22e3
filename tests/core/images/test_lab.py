from __future__ import annotations

import numpy as np
import pytest

from partsynth.core.images.lab import recoloured, to_lab, to_rgb

# CIE L*a*b* under D65 of sRGB's primaries, as tables of it have them
KNOWN = {
    (1, 1, 1): (100, 0, 0),
    (0, 0, 0): (0, 0, 0),
    (1, 0, 0): (53.24, 80.09, 67.20),
    (0, 1, 0): (87.73, -86.18, 83.18),
    (0, 0, 1): (32.30, 79.19, -107.86),
}


@pytest.mark.parametrize(("rgb", "lab"), KNOWN.items())
def test_primaries_lie_where_tables_have_them(rgb, lab) -> None:
    assert np.allclose(to_lab(np.array(rgb, float)), lab, atol=0.02)


def test_there_and_back_is_the_same_colour() -> None:
    rgb = np.random.default_rng(0).random((5, 7, 3))
    assert np.allclose(to_rgb(to_lab(rgb)), rgb, atol=1e-9)
    assert 0.999 < to_rgb(np.array([120.0, 200, 200])).max() <= 1  # no colour of a screen: clipped


def test_mean_and_spread_become_the_others() -> None:
    rng = np.random.default_rng(1)
    own, others = 0.3 + 0.1 * rng.random((400, 3)), 0.5 + 0.15 * rng.random((300, 3))
    moved = to_lab(recoloured(own, own, others))
    assert np.allclose(moved.mean(0), to_lab(others).mean(0), atol=1e-6)
    assert np.allclose(moved.std(0), to_lab(others).std(0), atol=1e-6)


def test_a_flat_region_is_moved_and_not_stretched() -> None:
    flat, others = np.full((9, 3), 0.4), np.random.default_rng(2).random((50, 3))
    noisy = flat + 1e-3 * np.random.default_rng(3).standard_normal((9, 3))
    assert recoloured(noisy, noisy, others).std(0).max() < 0.01
