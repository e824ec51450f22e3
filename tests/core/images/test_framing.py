"""Framing: the box holds the part, is square, and the crop repeats edges instead of inventing pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from partsynth.core.images.framing import (
    REDUCING_GAP,
    crop_resize,
    dilation_pixels,
    middle_square,
    roi_box,
    whole_square,
    within,
)


@st.composite
def masks(draw):
    height, width = draw(st.integers(4, 60)), draw(st.integers(4, 60))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = draw(st.sampled_from([1, 200, 255]))
    return mask


@given(masks())
def test_box_is_square_and_holds_the_part(mask):
    left, top, right, bottom = roi_box(mask, 0)
    rows, columns = np.nonzero(mask)
    assert right - left == bottom - top
    assert left <= columns.min() and columns.max() < right
    assert top <= rows.min() and rows.max() < bottom
    assert right - left == max(np.ptp(rows), np.ptp(columns)) + 1
    # centred to the pixel
    assert abs((left + right) - (columns.min() + columns.max() + 1)) <= 1
    assert abs((top + bottom) - (rows.min() + rows.max() + 1)) <= 1


@given(masks(), st.integers(0, 12), st.integers(0, 12))
def test_dilation_never_shrinks_the_box(mask, a, b):
    small, large = (roi_box(mask, width) for width in sorted((a, b)))
    assert small[2] - small[0] <= large[2] - large[0]


def test_dilation_grows_by_the_filter_width():
    mask = np.zeros((40, 40), np.uint8)
    mask[15:25, 15:25] = 255
    assert roi_box(mask, 9) == (11, 11, 29, 29)


def test_wide_part_near_the_border_leaves_the_image():
    mask = np.zeros((40, 40), np.uint8)
    mask[0:4, 5:35] = 255
    left, top, right, bottom = roi_box(mask, 0)
    assert (left, right) == (5, 35) and top < 0 and bottom - top == 30


def test_outside_repeats_the_edge():
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    got = np.asarray(crop_resize(Image.fromarray(pixels), (-2, 0, 2, 4), 4, Image.Resampling.NEAREST))
    assert (got == pixels[:, [0, 0, 0, 1]]).all()


@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(-20, 20)] * 2), st.integers(1, 25))
def test_every_pixel_of_a_box_is_the_nearest_of_the_image(shape, corner, side):
    pixels = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    (top, left), nearest = corner, Image.Resampling.NEAREST
    got = np.asarray(crop_resize(Image.fromarray(pixels), (left, top, left + side, top + side), side, nearest))
    rows = np.clip(np.arange(top, top + side), 0, shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, shape[1] - 1)
    assert (got == pixels[np.ix_(rows, columns)]).all()


@given(
    st.tuples(*[st.integers(3, 40)] * 2), st.tuples(*[st.integers(-30, 30)] * 2), st.integers(1, 60), st.integers(8, 40)
)
def test_a_box_is_resized_as_its_whole_square_would_be(shape, corner, side, size):
    """However it is cut out: to the byte, and to two grey levels where blocks are averaged first."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (top, left), smooth = corner, Image.Resampling.BICUBIC
    rows = np.clip(np.arange(top, top + side), 0, shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, shape[1] - 1)
    whole = Image.fromarray(pixels[rows][:, columns]).resize((size, size), smooth, reducing_gap=REDUCING_GAP)
    got = crop_resize(Image.fromarray(pixels), (left, top, left + side, top + side), size, smooth)
    apart = np.abs(np.asarray(got).astype(int) - np.asarray(whole))
    assert apart.max() <= (2 if side >= 2 * REDUCING_GAP * size else 0)


def test_a_large_photograph_is_framed_as_plain_resampling_would():
    """Pillow's blocks are averaged where a photograph is many times as large as its frame."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    large = coarse.resize((1600, 1200), Image.Resampling.BICUBIC)
    got = np.asarray(crop_resize(large, (200, 0, 1400, 1200), 64, Image.Resampling.BICUBIC)).astype(int)
    plain = np.asarray(large.crop((200, 0, 1400, 1200)).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.abs(got - plain).mean() < 1 and np.abs(got - plain).max() <= 8


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_crop_keeps_the_mode_and_gives_the_size(mode):
    picture = Image.new(mode, (30, 20), 7 if mode == "L" else (1, 2, 3))
    framed = crop_resize(picture, (-5, -5, 25, 25), 16, Image.Resampling.BICUBIC)
    assert framed.mode == mode and framed.size == (16, 16)
    assert framed.getextrema() == picture.getextrema()


def test_a_box_inside_at_its_own_size_is_a_plain_crop():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    framed = crop_resize(Image.fromarray(pixels), (4, 2, 14, 12), 10, Image.Resampling.BICUBIC)
    assert (np.asarray(framed) == pixels[2:12, 4:14]).all()


def test_dilation_is_a_fraction_of_the_longer_side():
    assert dilation_pixels(32 / 1280, (1280, 720)) == 32
    with pytest.raises(ValueError, match="fraction"):
        dilation_pixels(32, (1280, 720))


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="empty"):
        roi_box(np.zeros((5, 5), np.uint8), 0)


@pytest.mark.parametrize(
    ("size", "box"), [((40, 30), (5, 0, 35, 30)), ((30, 41), (0, 5, 30, 35)), ((9, 9), (0, 0, 9, 9))]
)
def test_the_middle_square_is_the_largest(size, box):
    assert middle_square(size) == box


def test_within_cuts_off_what_is_outside():
    assert within((-3, 5, 50, 70), (40, 60)) == (0, 5, 40, 60)
    assert within((3, 5, 20, 30), (40, 60)) == (3, 5, 20, 30)


@pytest.mark.parametrize("size", [(80, 60), (60, 81), (7, 7)])
def test_the_whole_square_is_that_of_a_full_mask(size):
    assert whole_square(size) == roi_box(np.ones(size[::-1], np.uint8), 0)


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
def test_enormous_boxes_are_framed_alike_without_their_square(resample):
    wide = np.zeros((300, 12_000), np.uint8)
    wide[:, 6000:] = 200
    box = whole_square((12_000, 300))
    framed = np.asarray(crop_resize(Image.fromarray(wide), box, 32, resample))
    assert framed.shape == (32, 32) and framed[16, 2] == 0 and framed[16, 29] == 200
