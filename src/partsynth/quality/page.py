"""Data Docs, contact sheets and the list of flagged images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from partsynth.config.quality import Quality
from partsynth.core.sampling import spread
from partsynth.records.images import read_image
from partsynth.records.rows import AugmentedRecord, RealRecord, VerdictRecord
from partsynth.store.files import csv_text, prune, write_bytes_atomic, write_json, write_text_atomic
from partsynth.store.png import SourceType, png_bytes

SHEET = 24  # images per contact sheet
Cell = tuple[Image.Image | None, Image.Image, list[str]]  # source or None, image, lines of text


def write_page(
    page: Path,
    root: Path,
    rows: Sequence[RealRecord | AugmentedRecord],
    verdicts: Sequence[VerdictRecord],
    results: dict[str, Any],
    params: Quality,
    sources: Mapping[str, RealRecord],
) -> None:
    """Write contact sheets, flagged.csv and suite.json into ``page``, beside the Data Docs; remove all else.

    ``results`` are the suite's, ``sources`` the real training images by path.
    """
    page.mkdir(parents=True, exist_ok=True)
    records = {r.path: r for r in rows}
    wanted = [p for p in page.rglob("*") if "data_docs" in p.parts] if verdicts else []
    kind: SourceType | None = None
    if made := [row for row in rows if isinstance(row, AugmentedRecord)]:
        by_model = any(row.by_model for row in made)
        kind = "compositeWithTrainedAlgorithmicMedia" if by_model else "compositeCapture"
    for name, failed in (("flagged", True), ("accepted", False)):
        chosen = sorted(
            (v for v in verdicts if bool(v.reasons) == failed),
            key=lambda v: (v.percentile, v.drift if v.tolerated is not None else 0.0, v.path),
        )
        cells = [_cell(v, records[v.path], sources, root) for v in spread(chosen, SHEET)]
        sheet = contact_sheet(cells, f"{results['set']}: no {name} picture")
        write_bytes_atomic(page / f"{name}.png", png_bytes(sheet, source_type=kind))
        wanted.append(page / f"{name}.png")
    write_text_atomic(page / "flagged.csv", flagged_csv(v for v in verdicts if v.reasons))
    write_json(page / "suite.json", results | {"params": params})
    prune(page, [*wanted, page / "flagged.csv", page / "suite.json"])


def _cell(
    verdict: VerdictRecord, record: RealRecord | AugmentedRecord, sources: Mapping[str, RealRecord], root: Path
) -> Cell:
    source = read_image(root, sources[verdict.source]) if verdict.source else None
    drift = f"p {verdict.percentile:.3f}" if verdict.tolerated is None else f"drift {verdict.drift:.1f} sd"
    state = f"{record.state or '-'}  {drift}"
    return source, read_image(root, record), [verdict.class_name, state, verdict.reasons.replace(";", ", ")]


def flagged_csv(verdicts: Iterable[VerdictRecord]) -> str:
    """The flagged images as a table, the farthest first."""
    ordered = sorted(verdicts, key=lambda v: (-v.percentile, -v.drift, v.path))
    columns = ("path", "class_name", "reasons", "percentile", "drift", "nearest_class")
    return csv_text(columns, [[getattr(v, name) for name in columns] for v in ordered])


def contact_sheet(cells: Sequence[Cell], empty: str, columns: int = 6, side: int = 96) -> Image.Image:
    """Cells in rows, each image ``side`` pixels square; the line ``empty`` where there is none."""
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
    for i, (source, image, text) in enumerate(cells):
        left, top = gap + i % columns * width, gap + i // columns * height
        for place, shown in enumerate([image] if across == 1 else [source, image]):
            if shown is not None:
                sheet.paste(shown.resize((side, side), Image.Resampling.NEAREST), (left + place * side, top))
        for n, words in enumerate(text):
            while words and draw.textlength(words, font=font) > width - gap:
                words = words[:-1]
            draw.text((left, top + side + 1 + n * line), words, fill="black", font=font)
    return sheet
