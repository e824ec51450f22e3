"""Real sources and their augmentations side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from partsynth.core.sampling import spread
from partsynth.records.rows import AugmentedRecord
from partsynth.reporting.inputs import Contents
from partsynth.reporting.thumbnails import Thumbnail, grouped, thumbnail

SHEET_ROWS = 16  # at most


@dataclass(frozen=True)
class Column:
    """One set of the sheet."""

    name: str
    about: str  # its strengths
    width: int  # images beside each source


def values(contents: Contents) -> dict[str, Any]:
    root, most = contents.inputs.root, contents.inputs.params.sheet_pictures
    by_source = {name: grouped(rows, lambda r: r.source) for name, rows in contents.sets.items()}
    sources = [r for r in contents.real if r.split == "train" and r.role == "target"]
    used = [r for r in sources if any(r.path in found for found in by_source.values())]
    by_class = grouped(used, lambda r: r.class_name)
    rounds = max(1, min(SHEET_ROWS, most) // max(len(by_class), 1))
    chosen = [r for rows in by_class.values() for r in spread(rows, rounds)][:most]
    columns = [
        Column(name, strengths(contents.sets[name]), max(1, *(len(found.get(r.path, [])) for r in chosen), 1))
        for name, found in by_source.items()
    ]

    def beside(source: str, column: Column) -> list[Thumbnail | None]:
        rows = sorted(by_source[column.name].get(source, []), key=lambda r: r.variant)
        judged = contents.verdicts.get(column.name, {})
        images = [thumbnail(root, r, r.caption, judged.get(r.path)) for r in rows]
        return [*images, *[None] * (column.width - len(images))]

    return {
        "columns": columns,
        "rows": [
            (thumbnail(root, r, r.class_name), [image for c in columns for image in beside(r.path, c)]) for r in chosen
        ],
    }


def strengths(rows: Sequence[AugmentedRecord]) -> str:
    if not rows:
        return "empty"
    found = sorted({strength for r in rows if (strength := getattr(r, "strength", None)) is not None})
    if not found:  # of a method without strengths
        return rows[0].method
    return f"strength {', '.join(f'{v:g}' for v in found) if len(found) <= 4 else f'{found[0]:g} to {found[-1]:g}'}"
