"""The photographs, or renders, themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from partsynth.core.sampling import spread
from partsynth.records.rows import RealRecord
from partsynth.reporting.format import PARTS
from partsynth.reporting.inputs import Contents
from partsynth.reporting.thumbnails import Thumbnail, grouped, thumbnail

SPLITS = ("train", "val", "test", "shifted")


@dataclass(frozen=True)
class Unseen:
    """One part of the out-of-distribution images."""

    title: str
    classes: int
    images: list[Thumbnail]


def values(contents: Contents) -> dict[str, Any]:
    root, most = contents.inputs.root, contents.inputs.params.sheet_pictures
    splits = [split for split in SPLITS if any(r.split == split for r in contents.real)]

    def cell(records: list[RealRecord], split: str) -> list[Thumbnail]:
        some = spread([r for r in records if r.split == split], 2)
        return [thumbnail(root, r, r.class_name, alt=f"{r.class_name}, {split}, {r.state}") for r in some]

    by_class = list(grouped(contents.real, lambda r: r.class_name).items())[:most]
    parts = grouped(contents.ood, lambda r: (r.role != "near_ood", r.split != "val", r.role, r.split))
    return {
        "splits": [PARTS[split] for split in splits],
        "rows": [(name, [cell(records, split) for split in splits]) for name, records in by_class],
        "unseen": [unseen(contents, role, split, rows) for (_, _, role, split), rows in parts.items()],
    }


def unseen(contents: Contents, role: str, split: str, rows: list[RealRecord]) -> Unseen:
    by_class = grouped(rows, lambda r: r.class_name)
    some = spread([r for found in by_class.values() for r in spread(found, 2)], contents.inputs.params.sheet_pictures)
    images = [thumbnail(contents.inputs.root, r, r.class_name) for r in some]
    return Unseen(PARTS[f"{role.removesuffix('_ood')}_{split}"], len(by_class), images)
