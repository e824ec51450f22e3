"""Images read through their records."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from partsynth.errors import UserError
from partsynth.records.rows import Record, SelectedRecord
from partsynth.store import shards
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import AUGMENTED, MANIFEST, OOD, REAL, SELECTED


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
        told = f"sha256 in {table_of(record)}"
        raise UserError(
            f"{path} differs from its manifest ({told}), one of the two is damaged: dvc checkout restores it"
        )
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if size is not None and image.size != (size, size):
        raise UserError(f"{path} is {image.width} x {image.height} pixels, expected {size} x {size}")
    return image


def table_of(record: Record) -> str:
    """Where the record stands, as a fault names it."""
    if isinstance(record, SelectedRecord):
        return f"its table of {SELECTED}"
    of_a_set = "/".join(record.path.split("/")[:3])
    folder = next((name for name in (REAL, OOD, of_a_set) if record.path.startswith(f"{name}/")), "")
    return f"{folder}/{MANIFEST}" if folder in (REAL, OOD) or folder.startswith(f"{AUGMENTED}/") else f"its {MANIFEST}"
