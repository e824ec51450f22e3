"""Images read through their records."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from partsynth.errors import UserError
from partsynth.records.rows import Record
from partsynth.store import shards
from partsynth.store.hashing import sha256_bytes


def read_image(root: Path, record: Record, size: int | None = None) -> Image.Image:
    """The record's image as RGB, its bytes checked against the record's sha256.

    Parameters
    ----------
    root : the folder that the record's path is relative to
    size : pixels of each side that the image must have; any where None

    Raises
    ------
    UserError
        where the file is missing, altered, or not ``size`` pixels square.
    """
    path = root / record.path
    try:
        data = shards.read(root, record.path)
    except FileNotFoundError:
        raise UserError(f"{path} is in the manifest but missing: dvc checkout, or dvc repro") from None
    if sha256_bytes(data) != record.sha256:
        raise UserError(f"{path} differs from its manifest (sha256): dvc checkout restores it")
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if size is not None and image.size != (size, size):
        raise UserError(f"{path} is {image.width} x {image.height} pixels, expected {size} x {size}")
    return image
