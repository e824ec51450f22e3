"""The rendered parts: MVIP's layout, and a manifest that knows each image's role, group, state and camera."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from partsynth.config.data import Ingest
from partsynth.errors import UserError
from partsynth.sources.base import ROLES, SPLITS, Fault, Found
from partsynth.sources.mvip import read_layout

COLUMNS = ("path", "sha256", "class_name", "role", "split", "group", "camera", "state")
TAKEN = ("role", "split", "group", "camera", "state", "sha256")


class RenderedSource:
    """MVIP's layout, then the manifest's columns by path. ``classes`` names target classes; OOD parts always stay."""

    def read(self, folder: Path, classes: Collection[str] | None, params: Ingest) -> Found:
        """
        Raises
        ------
        UserError
            where manifest.csv is missing or lacks columns.
        """
        path = folder / "manifest.csv"
        rows = {row["path"]: row for row in _read_rows(path)}
        ood = {row["class_name"] for row in rows.values() if row["role"] != "target"}
        wanted = None if classes is None else {*classes, *ood}
        found = read_layout(folder, wanted)
        photos = []
        for photo in found.photos:
            row = rows.pop(photo.name, None)
            if row is None:
                found.faults.append(Fault(photo.name, "not in the render's manifest"))
            elif row["role"] not in ROLES or row["split"] not in SPLITS:
                found.faults.append(Fault(photo.name, f"role {row['role']!r}, split {row['split']!r} in {path.name}"))
            else:
                photos.append(replace(photo, **{name: row[name] for name in TAKEN}))
        for name, row in rows.items():
            if wanted is None or row["class_name"] in wanted:
                found.faults.append(Fault(name, "in the render's manifest but missing"))
        found.photos = photos
        return found


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or [])]
            rows = list(reader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: `partsynth render` writes it last, so the render did not finish") from None
    if missing:
        raise UserError(f"{path}: missing columns {', '.join(missing)}")
    return rows


MEMBER = RenderedSource()
