"""Framing a part by its mask, the same way for photographs and for renders.

Boxes are (left, top, right, bottom) in pixels, right and bottom exclusive, and may lie partly outside the image.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter

Box = tuple[int, int, int, int]
LARGEST = 8192  # pixels a side of a box that is cut out whole
REDUCING_GAP = 3.0  # Pillow's: what is far larger is averaged in blocks to 3 times its goal first, then resampled


def dilation_pixels(fraction: float, image_size: tuple[int, int]) -> int:
    """The width in pixels of the maximum filter for a fraction of the image's longer side, in [0, 1); 0 = none."""
    if not 0 <= fraction < 1:
        raise ValueError(f"the dilation is a fraction of the image side in [0, 1), got {fraction}")
    return round(fraction * max(image_size))


def roi_box(mask: np.ndarray, dilation_px: int) -> Box:
    """The square around a part: its mask (H, W; anything over half of the brightest value counts) dilated by a
    maximum filter ``dilation_px`` wide, bounded, and widened about its centre to a square.

    Raises
    ------
    ValueError
        where the mask is empty or has not two axes.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask has two axes, got shape {mask.shape}")
    peak = mask.max()
    if peak == 0:
        raise ValueError("the mask is empty: no part to frame")
    inside = mask > peak / 2
    if dilation_px > 1:
        inside = maximum_filter(inside, size=dilation_px, mode="constant")
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    return _square(left, top, right, bottom)


def whole_square(size: tuple[int, int]) -> Box:
    """The square around a whole image of ``size`` (width, height)."""
    return _square(0, 0, *size)


def _square(left: int, top: int, right: int, bottom: int) -> Box:
    side = max(right - left, bottom - top)
    left -= (side - (right - left)) // 2
    top -= (side - (bottom - top)) // 2
    return left, top, left + side, top + side


def middle_square(size: tuple[int, int]) -> Box:
    """The largest square in the middle of an image of ``size`` (width, height)."""
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


def within(box: Box, size: tuple[int, int]) -> Box:
    """What of the box lies in an image of ``size`` (width, height)."""
    return max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1])


def crop_resize(image: Image.Image, box: Box, size: int, resample: Image.Resampling) -> Image.Image:
    """The box of an image (any mode) as size x size; what lies outside the image repeats its nearest edge pixel.

    Masks want ``Image.Resampling.NEAREST``, photographs a filter with antialiasing such as BICUBIC or LANCZOS. A box of
    more than LARGEST pixels a side is cut out of the image made smaller first: memory stays below LARGEST squared.

    Raises
    ------
    ValueError
        where the box is empty.
    """
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise ValueError(f"an empty box: {box}")
    if (side := max(right - left, bottom - top)) > LARGEST:
        step = -(-side // (LARGEST // 2))
        if resample is Image.Resampling.NEAREST:
            image = Image.fromarray(np.ascontiguousarray(np.asarray(image)[::step, ::step]))
        else:
            image = image.reduce(step)
        left, top, right, bottom = (edge // step for edge in (left, top, right, bottom))
    is_square = right - left == bottom - top
    top, bottom, before, after = _overlap(top, bottom, image.height)
    left, right, first, last = _overlap(left, right, image.width)
    if (left, top, right, bottom) != (0, 0, *image.size):
        image = image.crop((left, top, right, bottom))
    if (before or after) and is_square and not (first or last):
        # Pillow resizes a square's columns first: the rows to be repeated are short then, and the result is the same
        # (where blocks are averaged, to two grey levels)
        image = image.resize((size, image.height), resample, reducing_gap=REDUCING_GAP)
    if before or after or first or last:
        image = _padded(image, (before, after), (first, last))
    return image.resize((size, size), resample, reducing_gap=REDUCING_GAP)


def _padded(image: Image.Image, rows: tuple[int, int], columns: tuple[int, int]) -> Image.Image:
    pixels = np.asarray(image)
    return Image.fromarray(np.pad(pixels, [rows, columns, *[(0, 0)] * (pixels.ndim - 2)], mode="edge"))


def _overlap(low: int, high: int, length: int) -> tuple[int, int, int, int]:
    """The part of ``low`` to ``high`` that lies in 0 to ``length``, one pixel at least, and how much lies before and
    after it."""
    start = min(max(low, 0), length - 1)
    stop = max(min(high, length), start + 1)
    missing = high - low - (stop - start)
    before = min(max(start - low, 0), missing)
    return start, stop, before, missing - before
