"""The rendered parts: MVIP's layout, and a manifest that knows each picture's role, group, state and camera."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from partsynth.errors import UserError
from partsynth.sources import mvip
from partsynth.sources.base import SPLITS, Fault, Found

ROLES = ("target", "near_ood", "far_ood")
COLUMNS = ("path", "sha256", "class_name", "role", "split", "group", "camera", "state")


def read(folder: Path, classes: list[str] | None = None) -> Found:
    """MVIP's reader, then the manifest's columns by path. ``classes`` names target classes; OOD parts always stay.

    Raises
    ------
    UserError
        where manifest.csv is missing or lacks columns.
    """
    path = folder / "manifest.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or [])]
            rows = list(reader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `partsynth render` writes it last, so the render did not finish") from None
    if missing:
        raise UserError(f"{path}: missing columns {', '.join(missing)}")
    ood = {row["class_name"] for row in rows if row["role"] != "target"}
    wanted = None if classes is None else sorted({*classes, *ood})
    found = mvip.read(folder, wanted)
    by_name = {row["path"]: row for row in rows}
    photos = []
    for photo in found.photos:
        row = by_name.pop(photo.name, None)
        if row is None:
            found.faults.append(Fault(photo.name, "not in the render's manifest"))
        elif row["role"] not in ROLES or row["split"] not in SPLITS:
            found.faults.append(Fault(photo.name, f"role {row['role']!r}, split {row['split']!r} in {path.name}"))
        else:
            told = {c: row[c] for c in ("role", "split", "group", "camera", "state", "sha256")}
            photos.append(replace(photo, **told))
    for name, row in by_name.items():
        if wanted is None or row["class_name"] in wanted:
            found.faults.append(Fault(name, "in the render's manifest but missing"))
    found.photos = photos
    return found
