"""Contact sheets of training tables, for MLflow: its interface compares images poorly, one sheet per run shows them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from partsynth.errors import UserError
from partsynth.records.images import read_image
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import SelectedRecord
from partsynth.tracking.inputs import DataInput

SIDE, GAP, LINE = 64, 2, 16  # pixels: of an image, between images, of a heading
COLUMNS, ROWS = 16, 3  # images per kind
QUALITY = 88  # of the JPEG


def of_inputs(root: Path, inputs: Sequence[DataInput]) -> bytes | None:
    """The sheet of the training table among a run's data sets, a JPEG; None where it cannot be read: that fails
    elsewhere."""
    table = next((root / item.path for item in inputs if item.name.startswith("selected")), None)
    if table is None or not table.is_file():
        return None
    with contextlib.suppress(OSError, UserError):
        buffer = io.BytesIO()
        training_sheet(read_manifest(table, SelectedRecord), root).save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()
    return None


def training_sheet(rows: Sequence[SelectedRecord], root: Path) -> Image.Image:
    """Up to 48 images of each kind (real, each set in its role), evenly spaced over the table, under a heading.

    Raises
    ------
    OSError, UserError
        for an image that cannot be read.
    """
    kinds: dict[tuple[str, str], list[SelectedRecord]] = {}
    for row in rows:
        kinds.setdefault((row.origin, row.role), []).append(row)
    parts = []
    for (origin, role), members in kinds.items():
        count = min(len(members), COLUMNS * ROWS)
        chosen = [members[i * len(members) // count] for i in range(count)]
        parts.append((f"{origin}, {role}: {count} of {len(members)}", chosen))
    step = SIDE + GAP
    height = sum(LINE + step * -(-len(chosen) // COLUMNS) for _, chosen in parts)
    sheet = Image.new("RGB", (COLUMNS * step, max(height, LINE)), "white")
    pen, top = ImageDraw.Draw(sheet), 0
    for heading, chosen in parts:
        pen.text((GAP, top + 1), heading, fill="black")
        top += LINE
        for i, row in enumerate(chosen):
            image = read_image(root, row)
            image.thumbnail((SIDE, SIDE))
            sheet.paste(image, (i % COLUMNS * step, top + i // COLUMNS * step))
        top += step * -(-len(chosen) // COLUMNS)
    return sheet
