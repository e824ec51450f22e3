"""Decoding of photographs, whatever a camera or a program wrote."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from partsynth.sources.files import HAS_HEIF, HEIF_REMEDY, content_of

LEAST_SIDE = 8  # pixels; less is no image of a part
ORIENTATION = 0x0112  # EXIF
BITS_PER_SAMPLE = 258  # TIFF
DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras use of 16

if HAS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()


class BadImage(Exception):
    """Why an image or mask cannot be used."""


def decode(data: bytes, bits: int = 16) -> Image.Image:
    """Upright 8-bit RGB of an encoded image: grey, palette, alpha (over white), CMYK, 16 bits, EXIF orientation.

    ``bits`` are those of a 16-bit grey image that hold its values (see ``bits_of``).

    Raises
    ------
    BadImage
        where it is damaged, smaller than LEAST_SIDE, too large, of floating-point values, or of 16-bit colours of which
        only the lower bits are used.
    """
    image = read(data)
    if min(image.size) < LEAST_SIDE:
        raise BadImage(f"only {image.width} x {image.height} pixels (at least {LEAST_SIDE} a side)")
    flat = _flatten(_eight_bits(image, bits))
    return flat if flat.mode == "RGB" else flat.convert("RGB")  # which would copy it


def peak_of(data: bytes) -> int | None:
    """The brightest value of a 16-bit grey image; None for any other."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # what is wrong is told when it is decoded
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data))
        if _is_deep(image):
            return int(np.asarray(image).max())
    return None


def bits_of(peak: int) -> int:
    """How many bits 16-bit files use whose brightest value is ``peak``: 12-bit cameras write 0 to 4095."""
    return next(bits for bits in DEPTHS if peak < 1 << bits)


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the file tells them; (0, 0) where it cannot be read."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # what is wrong is told when it is decoded
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(data)).size
    return 0, 0


def has_other_colours(data: bytes) -> bool:
    """Whether a colour profile other than sRGB (Display P3, Adobe RGB, one of print) lies in the file."""
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data))
        profile = image.info.get("icc_profile") or b""
        return bool(profile) and image.mode not in ("L", "I", "1") and b"sRGB" not in profile.replace(b"\0", b"")
    return False


def read(data: bytes) -> Image.Image:
    """The image as it is encoded, but upright.

    Raises
    ------
    BadImage
        where it cannot be.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF and large images warn; what matters raises
            image = Image.open(io.BytesIO(data))
            deep_colours = _has_deep_colours(image, data)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except Image.UnidentifiedImageError:
        if content_of(data[:16]) == "HEIF" and not HAS_HEIF:
            raise BadImage(f"HEIF: {HEIF_REMEDY}") from None
        if data.startswith(b"version https://git-lfs"):
            raise BadImage("a pointer of Git LFS: git lfs pull brings the image") from None
        raise BadImage("empty file" if not data else "not a picture (unknown format)") from None
    except (Image.DecompressionBombError, MemoryError) as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        reason = "" if isinstance(error, MemoryError) else f" (at most {most} million)"
        raise BadImage(f"too many pixels{reason}: make it smaller, or cut it into pieces") from None
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise BadImage(f"damaged: {error}") from None
    if deep_colours and image.mode in ("RGB", "RGBA") and np.asarray(image)[..., :3].max() < 64:
        # only the upper 8 bits of 16 are decoded
        raise BadImage("16-bit colours of which only the lower bits are used: it would be black; save it with 8 bits")
    return image


def _has_deep_colours(image: Image.Image, data: bytes) -> bool:
    if image.format == "PNG":
        return data[24] == 16 and data[25] in (2, 6)
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, ()) if image.format == "TIFF" else ()
    return isinstance(bits, tuple) and len(bits) >= 3 and min(bits) == 16


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """16-bit grey to 8 bits over the whole range of its bits, never stretched: exposure stays comparable."""
    if image.mode == "F":
        raise BadImage("floating-point values: save it with 8 or 16 bits")
    if _is_deep(image):
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise BadImage("32-bit values: save it with 8 or 16 bits")
        top = (1 << bits) - 1
        scaled = (pixels * 255 + top // 2) // top  # at 16 bits (v + 128) // 257
        return Image.fromarray(np.minimum(scaled, 255).astype(np.uint8))
    return image


def _flatten(image: Image.Image) -> Image.Image:
    """Over white where it is transparent. A camera's alpha channel of zeros is no transparency."""
    if not image.has_transparency_data:
        return image
    hidden = image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (0, 0)
    image = image.convert("RGBA")
    if hidden:
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
