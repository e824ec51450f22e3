"""Data Docs, contact sheets and the list of flagged images."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from partsynth.config.generation import Quality
from partsynth.records.images import read_image
from partsynth.records.rows import RealRecord, Record, VerdictRecord
from partsynth.store.files import prune, write_bytes_atomic, write_json, write_text_atomic
from partsynth.store.png import png_bytes

SHEET = 24  # pictures a contact sheet


def write_page(
    page: Path,
    root: Path,
    rows: Sequence[Record],
    verdicts: Sequence[VerdictRecord],
    results: dict[str, Any],
    params: Quality,
    sources: dict[str, RealRecord],
) -> None:
    page.mkdir(parents=True, exist_ok=True)
    states = {r.path: r.state for r in rows}
    records = {r.path: r for r in rows}
    wanted = [p for p in page.rglob("*") if "data_docs" in p.parts] if verdicts else []
    for name, failed in (("flagged", True), ("accepted", False)):
        chosen = sorted((v for v in verdicts if bool(v.reasons) == failed), key=lambda v: (v.percentile, v.path))
        chosen = [chosen[i] for i in _spread(len(chosen), SHEET)]
        sheet = contact_sheet(
            [
                (
                    read_image(root, sources[v.source]) if v.source else None,
                    read_image(root, records[v.path]),
                    [v.class_name, f"{states[v.path] or '-'}  p {v.percentile:.3f}", v.reasons.replace(";", ", ")],
                )
                for v in chosen
            ],
            f"{results['set']}: no {name} picture",
        )
        write_bytes_atomic(page / f"{name}.png", png_bytes(sheet))
        wanted.append(page / f"{name}.png")
    write_text_atomic(page / "flagged.csv", flagged_csv(v for v in verdicts if v.reasons))
    write_json(page / "suite.json", results | {"params": params})
    prune(page, [*wanted, page / "flagged.csv", page / "suite.json"])


def _spread(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` of ``count`` positions, first and last among them."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted)).round()}) if count else []


def flagged_csv(verdicts: Iterable[VerdictRecord]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", "class_name", "reasons", "percentile", "drift", "nearest_class"])
    ordered = sorted(verdicts, key=lambda v: (-v.percentile, -v.drift, v.path))
    writer.writerows([v.path, v.class_name, v.reasons, v.percentile, v.drift, v.nearest_class] for v in ordered)
    return buffer.getvalue()


def contact_sheet(
    cells: Sequence[tuple[Image.Image | None, Image.Image, list[str]]], empty: str, columns: int = 6, side: int = 96
) -> Image.Image:
    """Cells of (source or None, picture, lines of text) in rows; a line of text where there is none."""
    line, gap = 13, 8
    font = ImageFont.load_default(size=11)
    if not cells:
        sheet = Image.new("RGB", (420, 40), "white")
        ImageDraw.Draw(sheet).text((10, 12), empty, fill="black", font=font)
        return sheet
    across = 2 if any(source is not None for source, _, _ in cells) else 1
    lines = max(len(text) for _, _, text in cells)
    width, height = max(across * side, 150) + gap, side + lines * line + gap
    columns = min(columns, len(cells))
    sheet = Image.new("RGB", (columns * width + gap, -(-len(cells) // columns) * height + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (source, picture, text) in enumerate(cells):
        left, top = gap + i % columns * width, gap + i // columns * height
        for place, image in enumerate([picture] if across == 1 else [source, picture]):
            if image is not None:
                sheet.paste(image.resize((side, side), Image.Resampling.NEAREST), (left + place * side, top))
        for n, words in enumerate(text):
            while words and draw.textlength(words, font=font) > width - gap:
                words = words[:-1]
            draw.text((left, top + side + 1 + n * line), words, fill="black", font=font)
    return sheet
