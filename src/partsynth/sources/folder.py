"""Anybody's photographs: one folder per class, masks optional, groups by a regular expression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from partsynth.config.data import Ingest
from partsynth.sources.base import IMAGE_ENDINGS, Fault, Found, Photo, class_folders, images_below, visible

MASK_FOLDER = "masks"


class FolderSource:
    """``<class>/**/<image>``.

    A mask is ``<stem>_mask.*`` beside its image, or ``<stem>.*`` or ``<stem>_mask.*`` in a folder ``masks``: inside the
    class's folder, or beside the class folders as ``masks/<class>/``. ``ingest.group_pattern`` is searched in
    ``<class>/<file>``; the captured groups that took part, joined by ``-``, name the spot, the same one in every class.
    Without a pattern each photograph is a group of its own.
    """

    def read(self, folder: Path, classes: Collection[str] | None, params: Ingest) -> Found:
        found = Found()
        found.folders = class_folders(folder, classes, found.faults)
        if found.folders.get(MASK_FOLDER) == MASK_FOLDER and len(found.folders) > 1:
            del found.folders[MASK_FOLDER]  # masks beside the class folders
        loose = [p.name for p in visible(folder) if p.is_file() and p.suffix.lower() in IMAGE_ENDINGS]
        found.faults += [Fault(name, "lies outside the class folders: put it into one") for name in loose]
        for class_name, class_folder in found.folders.items():
            _read_class(folder, class_name, class_folder, params.group_pattern, found)
        found.photos.sort(key=lambda photo: photo.name)
        return found


def _read_class(folder: Path, class_name: str, class_folder: str, group_pattern: str | None, found: Found) -> None:
    images = list(images_below(folder / class_folder))
    masks = {_mask_key(p, folder / class_folder): p for p in images if _is_mask(p, folder / class_folder)}
    sibling = folder / MASK_FOLDER / class_folder
    if sibling.is_dir():
        masks |= {_mask_key(p, sibling): p for p in images_below(sibling)}
    photos = [p for p in images if not _is_mask(p, folder / class_folder)]
    if not photos:
        endings = Counter(p.suffix.lower() or p.name for p in (folder / class_folder).rglob("*") if p.is_file())
        there = ", ".join(f"{n} {e}" for e, n in sorted(endings.items())) or "nothing"
        reason = f"no picture in this class ({there} found; pictures end in {', '.join(IMAGE_ENDINGS)})"
        found.faults.append(Fault(class_folder, reason))
    for path in photos:
        name = path.relative_to(folder).as_posix()
        mask = masks.pop(_mask_key(path, folder / class_folder), None)
        group = _group(name, group_pattern)
        if group is None:
            found.faults.append(Fault(name, f"ingest.group_pattern {group_pattern!r} finds no group in this name"))
            continue
        mask_name = "" if mask is None else mask.relative_to(folder).as_posix()
        found.photos.append(Photo(name=name, class_name=class_name, group=group, mask=mask_name))
    for path in masks.values():
        found.faults.append(Fault(path.relative_to(folder).as_posix(), "a mask without its picture"))


def _is_mask(path: Path, class_folder: Path) -> bool:
    return path.stem.endswith("_mask") or MASK_FOLDER in path.relative_to(class_folder).parts[:-1]


def _mask_key(path: Path, below: Path) -> str:
    parts = [p for p in path.relative_to(below).parts[:-1] if p != MASK_FOLDER]
    return "/".join([*parts, path.stem.removesuffix("_mask")])


def _group(name: str, pattern: str | None) -> str | None:
    if pattern is None:
        return name
    match = re.search(pattern, name)
    return "-".join(g for g in match.groups() if g) or None if match else None


MEMBER = FolderSource()
