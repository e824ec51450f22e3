"""Images of the page: chosen evenly, reduced, with what stands below them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from partsynth.records.images import read_image
from partsynth.records.rows import Record, VerdictRecord

MAX_SIDE = 128  # pixels; larger images are reduced, so that a page of 512-pixel sets stays portable
Row = TypeVar("Row")


@dataclass(frozen=True)
class Thumbnail:
    """One image as the page shows it."""

    webp: bytes
    path: str
    alt: str
    caption: str
    verdict: VerdictRecord | None = None


def thumbnail(
    root: Path, record: Record, caption: str, verdict: VerdictRecord | None = None, alt: str | None = None
) -> Thumbnail:
    """The record's image, its path being below ``root``; ``alt`` describes it where the caption does not.

    Raises
    ------
    UserError
        where it is missing or altered.
    """
    image, small = _reduced(root, record)
    return Thumbnail(_webp(image, small), record.path, alt or caption, caption, verdict)


def with_heat(root: Path, record: Record, caption: str, heat: np.ndarray) -> Thumbnail:
    """The image, and beside it in grey under ``heat`` (s, s) in [0, 1], bright where that is high.

    Raises
    ------
    UserError
        where it is missing or altered.
    """
    from matplotlib import colormaps

    image, small = _reduced(root, record)
    levels = Image.fromarray((heat * 255).round().astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    weight = np.asarray(levels, float)[:, :, None] / 255  # (H, W, 1)
    colours = colormaps["inferno"](weight[:, :, 0])[:, :, :3] * 255  # (H, W, 3)
    grey = np.asarray(image.convert("L"), float)[:, :, None] * 0.6
    over = Image.fromarray((grey * (1 - weight) + colours * weight).round().astype(np.uint8))
    both = Image.new("RGB", (2 * image.width, image.height))
    both.paste(image, (0, 0))
    both.paste(over, (image.width, 0))
    return Thumbnail(_webp(both, small), record.path, f"{caption}: image and saliency", caption)


def _reduced(root: Path, record: Record) -> tuple[Image.Image, bool]:
    """The image, and whether it is as small as it was."""
    image = read_image(root, record)
    small = max(image.size) <= MAX_SIDE
    if not small:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image, small


def _webp(image: Image.Image, small: bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=small, quality=60 if small else 85, method=2)
    return buffer.getvalue()


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by their key, keys in order."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))
