"""Decoding of photographs and masks, whatever a camera or a labelling tool wrote."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

LEAST_SIDE = 8  # pixels; less is no image of a part


class BadImage(Exception):
    """Why an image or mask cannot be used."""


def decode(data: bytes) -> Image.Image:
    """Upright 8-bit RGB of an encoded image: grey, palette, alpha (over white), CMYK, 16 bits, EXIF orientation.

    Raises
    ------
    BadImage
        where it is damaged, smaller than LEAST_SIDE, or of floating-point values.
    """
    image = _open(data)
    if min(image.size) < LEAST_SIDE:
        raise BadImage(f"only {image.width} x {image.height} pixels (at least {LEAST_SIDE} a side)")
    return _flatten(_eight_bits(image), "white").convert("RGB")


def decode_mask(data: bytes, photo: bytes, size: tuple[int, int]) -> np.ndarray:
    """A mask as uint8 (H, W), brighter = part, upright like its image of ``size`` (width, height).

    A mask drawn over the stored pixels of an image that EXIF turns is turned with it.

    Raises
    ------
    BadImage
        where it is damaged, empty, or of another size than its image.
    """
    mask = _flatten(_eight_bits(_open(data)), "black").convert("L")
    if mask.size != size and mask.size == size[::-1]:
        turn = Image.open(io.BytesIO(photo)).getexif().get(0x0112, 1)
        mask.getexif()[0x0112] = turn
        mask = ImageOps.exif_transpose(mask)
    if mask.size != size:
        raise BadImage(f"{mask.width} x {mask.height} pixels, its picture {size[0]} x {size[1]}")
    pixels = np.asarray(mask)
    if not pixels.any():
        raise BadImage("empty: no part in it")
    return pixels


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF and large images warn; what matters raises
            image = Image.open(io.BytesIO(data))
            image.load()
            return ImageOps.exif_transpose(image)
    except Image.UnidentifiedImageError:
        raise BadImage("empty file" if not data else "not a picture (unknown format)") from None
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise BadImage(f"damaged: {error}") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits over the whole 16-bit range, never stretched: exposure stays comparable."""
    if image.mode == "F":
        raise BadImage("floating-point values: save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise BadImage("32-bit values: save it with 8 or 16 bits")
        return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
    return image


def _flatten(image: Image.Image, background: str) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image)
