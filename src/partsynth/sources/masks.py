"""Masks of parts, in whatever convention a labelling tool writes them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from partsynth.sources.decode import ORIENTATION, BadImage, read

LEAST_PIXELS = 9  # of a part
LEAST_SHARE = 5e-5  # of the image: 24 pixels a side of 12 million
FULL = 0.99  # of the image; such a mask frames nothing
FLAT = 0.6  # of a label's pixels have neighbours of the same value; of a soft edge's hardly any
LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF", "HEIF")  # their noise is no label


def decode_mask(data: bytes, photo: bytes, size: tuple[int, int]) -> np.ndarray:
    """A mask as uint8 (H, W), more than half of its brightest value = part, upright like its image of ``size``.

    Black and white, soft edges, labels (0 = background, every other number a part), colours (black = background),
    cut-outs (transparent = background), of 1 to 32 bits. A mask drawn over the stored pixels of an image that EXIF
    turns is turned with it.

    Raises
    ------
    BadImage
        where it is its own image, damaged, empty or nearly so, inverted, of another size than its image, or where
        nothing tells whether it turns with its image.
    """
    if data == photo:
        raise BadImage("is the picture itself")
    mask = _upright(data, photo, size)
    if mask.size != size:
        raise BadImage(f"{mask.width} x {mask.height} pixels, its picture {size[0]} x {size[1]}")
    pixels = _part(_levels(mask), lossy=Image.open(io.BytesIO(data)).format in LOSSY)
    _refuse_odd(pixels)
    return pixels


def is_full(mask: np.ndarray) -> bool:
    """Whether a mask (of ``decode_mask``) covers nearly the whole image: it frames nothing."""
    return bool((mask > mask.max() / 2).mean() >= FULL)


def looks_like_mask(path: Path) -> bool:
    """Whether an image file is a mask by its content: nearly all of it black or white, or of very few colours."""
    try:
        image = read(path.read_bytes())
    except (BadImage, OSError):
        return False
    if image.mode in ("1", "I", "F") or image.mode.startswith("I;"):
        return len(np.unique(np.asarray(image))) <= 16
    colours = image.convert("RGB")
    if colours.getcolors(16) is not None:
        return True
    pixels = np.asarray(colours)
    return bool(((pixels <= 16).all(axis=2) | (pixels >= 239).all(axis=2)).mean() >= 0.95)


def _upright(data: bytes, photo: bytes, size: tuple[int, int]) -> Image.Image:
    """A mask that has no EXIF of its own is turned as its image is, where its size or its content tells to."""
    mask = read(data)
    turn = Image.open(io.BytesIO(photo)).getexif().get(ORIENTATION, 1)
    if turn not in range(2, 9) or Image.open(io.BytesIO(data)).getexif().get(ORIENTATION, 1) != 1:
        return mask
    stored = size[::-1] if turn >= 5 else size
    if mask.size != stored:
        return mask
    turned = mask.copy()
    turned.getexif()[ORIENTATION] = turn
    turned = ImageOps.exif_transpose(turned)
    if mask.size == size and not np.array_equal(np.asarray(mask), np.asarray(turned)):
        raise BadImage(
            "its picture is turned by EXIF, and nothing tells whether the mask is: save both upright (without the EXIF "
            "orientation), or give the mask the same EXIF orientation"
        )
    return turned


def _levels(mask: Image.Image) -> np.ndarray:
    """(H, W) uint8 or int64, 0 or the lowest value = background."""
    if mask.mode == "F":
        values = np.asarray(mask)
        if not np.isfinite(values).all():
            raise BadImage("values that are no numbers")
        values = values - values.min()
        if (values != np.rint(values)).any():  # a share rather than a label
            values = np.rint(values / values.max() * 255)
        return values.astype(np.int64)
    if mask.mode == "I" or mask.mode.startswith("I;16"):
        return np.asarray(mask).astype(np.int64)
    if mask.has_transparency_data:
        rgba = np.asarray(mask.convert("RGBA"))
        bright, alpha = rgba[..., :3].max(axis=2), rgba[..., 3]
        opaque = alpha > 127
        if opaque.all() or not opaque.any():
            return bright
        # a cut-out has hardly a black pixel; white on opaque black is a mask by its colours
        is_cut_out = (bright[opaque] == 0).mean() < 0.05
        return alpha if is_cut_out else np.where(opaque, bright, 0).astype(np.uint8)
    if mask.mode in ("1", "L"):
        return np.asarray(mask.convert("L"))
    return np.asarray(mask.convert("RGB")).max(axis=2)


def _part(levels: np.ndarray, lossy: bool) -> np.ndarray:
    """uint8 (H, W): labels become 0 and 255, soft masks keep their values."""
    background, peak = int(levels.min()), int(levels.max())
    if background == peak:
        return np.full(levels.shape, 255 if peak else 0, np.uint8)
    low = (levels > background) & (levels <= peak / 2)  # what a soft mask leaves out
    if not lossy and low.any() and (peak <= 8 or _flat_share(levels, low) > FLAT):
        return np.where(levels > background, 255, 0).astype(np.uint8)
    if levels.dtype == np.uint8:
        return levels
    return ((levels - background) * 255 // (peak - background)).astype(np.uint8)


def _flat_share(levels: np.ndarray, of: np.ndarray) -> float:
    """The share of the pixels ``of`` whose four neighbours have the same value."""
    padded = np.pad(levels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    flat = (padded[:-2, 1:-1] == middle) & (padded[2:, 1:-1] == middle)
    flat &= (padded[1:-1, :-2] == middle) & (padded[1:-1, 2:] == middle)
    return float(flat[of].mean())


def _refuse_odd(pixels: np.ndarray) -> None:
    if not pixels.any():
        raise BadImage("empty: no part in it")
    part = pixels > pixels.max() / 2
    count, rest = int(part.sum()), int((~part).sum())
    if count < max(LEAST_PIXELS, LEAST_SHARE * part.size):
        raise BadImage(f"nearly empty: {count} of {part.size} pixels are part")
    ring = np.concatenate([part[0], part[-1], part[1:-1, 0], part[1:-1, -1]])
    if rest >= max(LEAST_PIXELS, LEAST_SHARE * part.size) and ring.mean() >= FULL and part.mean() < FULL:
        raise BadImage("white all round, black inside: is it inverted? (white = part; ingest.masks: none goes without)")
