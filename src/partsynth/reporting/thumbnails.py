"""Images of the page: chosen evenly, reduced, with what stands below them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from partsynth.errors import UserError
from partsynth.records.rows import VerdictRecord
from partsynth.store.files import inside

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
    root: Path, path: str, caption: str, verdict: VerdictRecord | None = None, alt: str | None = None
) -> Thumbnail:
    """The image at ``path``, a name below ``root``; ``alt`` describes it where the caption does not.

    Raises
    ------
    UserError
        where it cannot be read.
    """
    file = inside(root, path)
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except OSError:
        raise UserError(f"{file} is in a manifest but missing or no image: dvc checkout, or dvc repro") from None
    small = max(image.size) <= MAX_SIDE
    if not small:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", lossless=small, quality=60 if small else 85, method=2)
    return Thumbnail(buffer.getvalue(), path, alt or caption, caption, verdict)


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by their key, keys in order."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return dict(sorted(found.items()))
