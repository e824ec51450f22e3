"""PNG with a fingerprint inside."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from partsynth.store.files import write_bytes_atomic
from partsynth.store.hashing import sha256_bytes

FINGERPRINT_KEY = "partsynth"


def png_bytes(image: Image.Image | np.ndarray, mark: str | None = None) -> bytes:
    """PNG of a PIL image or a uint8 array (H, W) or (H, W, 3), carrying ``mark`` as a text chunk."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    info = PngImagePlugin.PngInfo()
    if mark is not None:
        info.add_text(FINGERPRINT_KEY, mark)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info, compress_level=6)
    return buffer.getvalue()


def write_png(path: Path, image: Image.Image | np.ndarray, mark: str | None = None) -> str:
    """Write a PNG atomically with its fingerprint inside; returns the file's sha256."""
    data = png_bytes(image, mark)
    write_bytes_atomic(path, data)
    return sha256_bytes(data)


def png_fingerprint(path: Path) -> str | None:
    """The fingerprint inside a whole, readable PNG; None where the file is missing, torn or unmarked."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.info.get(FINGERPRINT_KEY)
    except (OSError, SyntaxError, ValueError):
        return None
