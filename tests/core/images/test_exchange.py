from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from partsynth.core.images.exchange import disc, exchanged, outline, weight


def part(box: tuple[float, float, float, float], inside: tuple[int, ...], size: tuple[int, int] = (96, 96)):
    """A grey disc on dark ground with a coloured hub of half its radius, and its mask."""
    image, mask = Image.new("RGB", size, (40, 44, 48)), Image.new("L", size)
    x0, y0, x1, y1 = box
    ImageDraw.Draw(image).ellipse(box, fill=(150, 150, 150))
    hub = (x0 + (x1 - x0) / 4, y0 + (y1 - y0) / 4, x1 - (x1 - x0) / 4, y1 - (y1 - y0) / 4)
    ImageDraw.Draw(image).ellipse(hub, fill=inside)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    pixels = np.asarray(image) + np.random.default_rng(size[0]).normal(0, 4, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), np.asarray(mask) > 127


def test_an_outline_is_a_discs_centre_and_radius() -> None:
    found = outline(disc((80, 60)))
    assert np.allclose([*found.centre, *found.radii], [40, 30, 30, 30], atol=0.05)
    row = np.zeros((9, 9), bool)
    row[4, 2:7] = True
    assert outline(row).radii[1] > 0.5
    with pytest.raises(ValueError, match="empty"):
        outline(np.zeros((4, 4), bool))


@pytest.mark.parametrize(("inner", "feather"), [(0.5, 0.0), (0.5, 1.5), (1.0, 1.0)])
def test_a_weight_is_the_shrunk_ellipse_with_a_soft_edge(inner, feather) -> None:
    found = weight(outline(disc((100, 80))), (100, 80), inner, feather)
    y, x = np.mgrid[:80, :100] + 0.5
    away = np.hypot(x - 50, y - 40)
    assert (found[away < 40 * inner - 2 * feather - 1] == 1).all()
    assert (found[away > 40 * inner + 2 * feather + 1] == 0).all()
    if feather:
        assert abs(found[np.abs(away - 40 * inner) < 0.5].mean() - 0.5) < 0.1


def test_the_inside_is_the_donors_wherever_and_however_large_it_lies_there() -> None:
    source, mask = part((20, 16, 80, 76), (180, 120, 120))
    donor, other = part((10, 60, 100, 120), (120, 120, 180), (128, 160))
    made = np.asarray(exchanged(source, mask, donor, other, 0.4, 1.0), float)
    own = np.asarray(source, float)
    assert made.shape == own.shape
    y, x = np.mgrid[:96, :96] + 0.5
    away = np.hypot(x - 50.5, y - 46.5)
    assert np.array_equal(made[away > 0.4 * 30 + 4], own[away > 0.4 * 30 + 4])
    # colours are the source's: its mean and spread where the region lies
    inside = away < 0.4 * 30 - 4
    assert np.abs(made[inside].mean(0) - own[inside].mean(0)).max() < 4
    assert not np.array_equal(made[inside], own[inside])


def test_a_donors_form_comes_with_it() -> None:
    """A hub of another size is seen in the region, bright on grey, under the source's own colours."""
    source, mask = part((18, 18, 78, 78), (230, 230, 230))
    donor, other = part((18, 18, 78, 78), (150, 150, 150))  # no hub to be seen
    ImageDraw.Draw(donor).ellipse((40, 40, 56, 56), fill=(230, 230, 230))
    made = np.asarray(exchanged(source, mask, donor, other, 0.8, 1.0).convert("L"), float)
    own = np.asarray(source.convert("L"), float)
    ring = (slice(46, 50), slice(34, 38))  # in the source's hub, outside the donor's
    assert own[ring].mean() - made[ring].mean() > 30
    assert made[44:52, 44:52].mean() - made[ring].mean() > 50


def test_ground_within_the_ellipse_stays_the_sources() -> None:
    """A part with a bay: where neither part is, nothing is exchanged."""
    source, mask = part((10, 10, 86, 86), (150, 150, 150))
    donor, other = part((10, 10, 86, 86), (90, 150, 90))
    mask, other = mask.copy(), other.copy()
    mask[:, 60:70] = other[:, 60:70] = False
    made = np.asarray(exchanged(source, mask, donor, other, 0.9, 1.0))
    assert np.array_equal(made[:, 61:69], np.asarray(source)[:, 61:69])
