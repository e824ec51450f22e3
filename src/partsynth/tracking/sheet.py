"""Contact sheets of training tables, for MLflow: its interface compares pictures poorly, one sheet a run shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from partsynth.records.rows import SelectedRecord
from partsynth.store.files import inside

SIDE, GAP, LINE = 64, 2, 16  # pixels: of a picture, between pictures, of a heading
COLUMNS, ROWS = 16, 3  # pictures a kind


def training_sheet(rows: Sequence[SelectedRecord], root: Path) -> Image.Image:
    """Up to 48 pictures of each kind (real, each set in its role), evenly spaced over the table, under a heading.

    Raises
    ------
    OSError, UserError
        for a picture that cannot be read.
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
            with Image.open(inside(root, row.path)) as opened:
                picture = opened.convert("RGB")
            picture.thumbnail((SIDE, SIDE))
            sheet.paste(picture, (i % COLUMNS * step, top + i // COLUMNS * step))
        top += step * -(-len(chosen) // COLUMNS)
    return sheet
