"""The inner region of one part in the place of another's: aligned by masks, in the other's colours, with a soft edge.

A region cut out of an image of another kind makes a negative whose nuisances are those of photographs (Sinha et al.,
Negative Data Augmentation, arXiv 2102.05113); one of the same kind brings the seams alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from partsynth.core.images.lab import recoloured


@dataclass(frozen=True)
class Outline:
    """Where a part lies: the ellipse with its mask's centroid and, along the image's axes, its extent."""

    centre: tuple[float, float]  # x, y in pixels, from the image's corner
    radii: tuple[float, float]  # x, y in pixels


def outline(mask: np.ndarray) -> Outline:
    """Of a mask (H, W) of bool. An ellipse's radius is twice the standard deviation of its pixels along that axis.

    Raises
    ------
    ValueError
        where the mask has no pixel.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise ValueError("the mask is empty")
    x, y = columns + 0.5, rows + 0.5
    # a pixel is no point: its own variance (1 / 12) keeps a mask of one row from having no extent
    radii = (2 * np.sqrt(x.var() + 1 / 12), 2 * np.sqrt(y.var() + 1 / 12))
    return Outline((float(x.mean()), float(y.mean())), (float(radii[0]), float(radii[1])))


def disc(size: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) of bool in an image of ``size`` (width, height): the largest disc about its centre."""
    width, height = size
    y, x = np.mgrid[:height, :width] + 0.5
    return np.hypot(x - width / 2, y - height / 2) <= min(size) / 2


def aligned(image: Image.Image, source: Outline, donor: Outline, size: tuple[int, int]) -> Image.Image:
    """A donor's image moved and stretched so that its outline lies on the source's; ``size`` (width, height)."""
    (sx, sy), (dx, dy) = source.centre, donor.centre
    ax, ay = donor.radii[0] / source.radii[0], donor.radii[1] / source.radii[1]
    resample = Image.Resampling.NEAREST if image.mode == "L" else Image.Resampling.BICUBIC
    return image.transform(size, Image.Transform.AFFINE, (ax, 0, dx - ax * sx, 0, ay, dy - ay * sy), resample)


def weight(source: Outline, size: tuple[int, int], inner: float, feather: float) -> np.ndarray:
    """How much of the donor is seen (H, W), in [0, 1]: the source's ellipse shrunk to ``inner`` of its radii.

    Its edge rises smoothly from 0 to 1 over ``4 feather`` pixels about it, ``feather`` 0 = a hard edge.
    """
    width, height = size
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = x - source.centre[0], y - source.centre[1]
    away = np.hypot(x, y)  # (H, W) pixels from the centre
    share = np.hypot(x / source.radii[0], y / source.radii[1])  # 1 on the ellipse
    # along a ray from the centre the ellipse's radius is away / share
    beyond = away - inner * np.divide(away, share, out=np.full_like(away, min(source.radii)), where=share > 0)
    if not feather:
        return (beyond <= 0).astype(np.float64)
    t = np.clip(0.5 - beyond / (4 * feather), 0, 1)
    return t * t * (3 - 2 * t)


def exchanged(
    source: Image.Image,
    source_mask: np.ndarray,
    donor: Image.Image,
    donor_mask: np.ndarray,
    inner: float,
    feather: float,
) -> Image.Image:
    """The source's image with the inner region of the donor's part in the place of its own.

    Parameters
    ----------
    source_mask, donor_mask : (H, W) of bool, each of its image's size: True on the part.
    inner : share of the part's radius that is exchanged, in (0, 1].
    feather : of the edge, in pixels of the source.

    Raises
    ------
    ValueError
        where a mask is empty.
    """
    here, there = outline(source_mask), outline(donor_mask)
    moved = aligned(donor.convert("RGB"), here, there, source.size)
    mask = Image.fromarray(np.where(donor_mask, 255, 0).astype(np.uint8))
    moved_mask = np.asarray(aligned(mask, here, there, source.size)) > 127  # (H, W)
    whole, new = (np.asarray(image.convert("RGB"), dtype=np.float64) / 255 for image in (source, moved))  # (H, W, 3)
    seen = weight(here, source.size, inner, feather)
    own, others = (seen > 0.5) & moved_mask, (seen > 0.5) & source_mask
    if own.any() and others.any():
        new = recoloured(new, new[own], whole[others])
    # ground beside both parts stays the source's: a part need not fill its ellipse
    parts = (source_mask | moved_mask).astype(np.float64)
    if feather:
        parts = np.clip(2 * gaussian_filter(parts, feather, mode="nearest") - 1, 0, 1)
    seen = (seen * parts)[..., None]
    mixed = (1 - seen) * whole + seen * new
    return Image.fromarray((255 * mixed).round().clip(0, 255).astype(np.uint8))
