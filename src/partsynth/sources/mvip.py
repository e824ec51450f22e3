"""MVIP (arXiv 2502.15448): photographs of used industrial parts with masks, in the data set's own folder layout.

``<class>/{train,valid,test}_data/<set>/[<orientation>/]<cam>/*_rgb.png``, each with ``*_rgb_mask_gen.png`` beside it,
and ``<class>/meta.json`` with the class's ``super_class``. ``shifted_data`` beside them is our extension: other wear,
light and angles.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from partsynth.config.data import Ingest
from partsynth.records.rows import Split
from partsynth.sources.base import Fault, Found, Photo, class_folders, images_below

SPLIT_FOLDERS: dict[str, Split] = {
    "train_data": "train",
    "valid_data": "val",
    "test_data": "test",
    "shifted_data": "shifted",
}
MASK_ENDING = "_mask_gen"


class MvipSource:
    """The RGB images of every class (of ``ingest.super_class``, where one is given), masks matched by name."""

    def read(self, folder: Path, classes: Collection[str] | None, params: Ingest) -> Found:
        return read_layout(folder, classes, params.super_class)


def read_layout(folder: Path, classes: Collection[str] | None, super_class: str | None = None) -> Found:
    """What lies in MVIP's layout. A group is one set of one class's split: all orientations and cameras of one
    recording."""
    found = Found()
    found.folders = class_folders(folder, classes, found.faults)
    if super_class is not None:
        found.folders = _of_super_class(folder, super_class, found)
    for class_name, class_folder in found.folders.items():
        before = len(found.photos)
        for split_folder, split in SPLIT_FOLDERS.items():
            base = folder / class_folder / split_folder
            if base.is_dir():
                rgb = [path for path in images_below(base) if path.stem.endswith("_rgb")]
                found.photos += [_photo(folder, base, path, class_name, split) for path in rgb]
        if len(found.photos) == before:
            reason = f"no *_rgb picture below {', '.join(SPLIT_FOLDERS)} of this class"
            found.faults.append(Fault(class_folder, reason))
    found.photos.sort(key=lambda photo: photo.name)
    return found


def _photo(folder: Path, base: Path, path: Path, class_name: str, split: Split) -> Photo:
    parts = path.relative_to(base).parts[:-1]  # set, perhaps orientation, camera
    mask = path.with_name(f"{path.stem}{MASK_ENDING}.png")
    return Photo(
        name=path.relative_to(folder).as_posix(),
        class_name=class_name,
        group="/".join([class_name, split, *parts[:1]]),
        split=split,
        camera=parts[-1] if len(parts) > 1 else "",
        mask=mask.relative_to(folder).as_posix() if mask.is_file() else "",
    )


def _of_super_class(folder: Path, super_class: str, found: Found) -> dict[str, str]:
    kept, seen = {}, set()
    for class_name, class_folder in found.folders.items():
        path = folder / class_folder / "meta.json"
        try:
            value = json.loads(path.read_text())["super_class"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else "has no readable super_class"
            found.faults.append(Fault(f"{class_folder}/meta.json", f"{why} (ingest.super_class needs it)", True))
            continue
        seen.add(str(value))
        if value == super_class:
            kept[class_name] = class_folder
    if not kept:
        reason = f"no class of ingest.super_class {super_class!r}; there are: {', '.join(sorted(seen)) or 'none'}"
        found.faults.append(Fault(folder.name, reason, True))
    return kept


MEMBER = MvipSource()
