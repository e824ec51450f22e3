from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from partsynth.core.diffusion.images import feathered, inverted, paste


def disc(side: int, box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask


@settings(max_examples=40, deadline=None)
@given(
    place=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    wide=st.tuples(st.integers(4, 60), st.integers(4, 60)),
    sigma=st.floats(0, 8),
    turned=st.booleans(),
)
def test_what_is_kept_is_kept_to_the_pixel_whatever_the_edge(
    place: tuple[int, int], wide: tuple[int, int], sigma: float, turned: bool
) -> None:
    mask = disc(64, (*place, place[0] + wide[0], place[1] + wide[1]))
    mask = inverted(mask) if turned else mask
    inside = np.asarray(mask) > 127
    rng = np.random.default_rng(0)
    edited, original = (Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(2))
    weight = feathered(mask, sigma)
    made = np.asarray(paste(edited, original, weight))
    assert np.array_equal(made[~inside], np.asarray(original)[~inside])
    whole = np.asarray(weight) == 255
    assert np.array_equal(made[whole], np.asarray(edited)[whole])
    if not sigma:
        assert np.array_equal(whole, inside)


def test_a_soft_edge_rises_inwards_and_the_image_s_border_is_none() -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (20, 0, 64, 64))
    row = np.asarray(feathered(mask, 4.0))[32].astype(int)
    assert (row[:20] == 0).all() and (np.diff(row) >= 0).all()
    assert 0 < row[20] < 40 and row[24] > 150 and row[28] > 235  # 1 and 2 sigma inside
    assert row[40] == row[63] == 255
    top, bottom = np.asarray(feathered(mask, 4.0))[[0, 63], 50]
    assert top == bottom == 255


def test_inverted_is_white_where_there_is_no_part() -> None:
    mask = Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
    assert np.asarray(inverted(mask)).tolist() == [[255, 255, 0, 0]]
