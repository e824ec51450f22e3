"""Anybody's photographs: one folder per class, masks optional, groups by a regular expression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from partsynth.config.data import Ingest
from partsynth.errors import UserError
from partsynth.records.rows import Split
from partsynth.sources.base import Fault, Found, Left, Photo
from partsynth.sources.files import USUAL_ENDINGS, class_folders, images_below, other_than_image, visible
from partsynth.sources.layouts import refuse_other_layouts, split_folders
from partsynth.sources.masks import looks_like_mask

MASK_FOLDER = "masks"
SHIFTED = "shifted"
EXPORTED = re.compile(r"\.rf\.[0-9A-Za-z]{16,}$")  # Roboflow's mark of each copy it makes of one photograph


class FolderSource:
    """``<class>/**/<image>``, or ``{train,val,test,shifted}/<class>/**/<image>``, whose splits are then used.

    ``ingest.shifted`` names a second folder of the same classes: the shifted part of the test.

    A mask is ``<stem>_mask.*`` beside its image, or ``<stem>.*`` or ``<stem>_mask.*`` in a folder ``masks``: inside the
    class's folder, or beside the class folders as ``masks/<class>/``. With ``ingest.masks: none`` these names mean
    nothing, though a file of such a name is left out where its content is a mask.

    ``ingest.group_pattern`` is searched in ``<class>/<file>``; the captured groups that took part, joined by ``-``,
    name the spot, the same one in every class. Where they are the whole file name, or without a pattern, each
    photograph is a group of its own, but for the copies that an export tool made of one photograph.
    """

    def read(self, folder: Path, classes: Collection[str] | None, params: Ingest) -> Found:
        """
        Raises
        ------
        UserError
            where the folder is laid out for another task (MVTec AD, YOLO, VOC), or names shifted photographs twice.
        """
        refuse_other_layouts(folder)
        found = Found()
        parts = split_folders(folder)
        places = [_Part(folder / name, name, split) for name, split in parts.items()] or [_Part(folder, "", None)]
        for part in places:
            _read_part(part, classes, params, found)
        if parts:
            here = {*found.folders, *found.folders.values()}
            there = ", ".join(sorted(found.folders.values()))
            missing = sorted(set(classes or []) - here)
            found.faults += [Fault(name, f"no such class folder; there are: {there}", True) for name in missing]
        if params.shifted is not None:
            elsewhere = Path(params.shifted)
            if not elsewhere.is_dir():
                raise UserError(f"ingest.shifted: {elsewhere}: no such folder")
            if SHIFTED in parts.values() or SHIFTED in found.folders.values():
                raise UserError(f"{folder} has a folder {SHIFTED!r} of its own: leave ingest.shifted out, or rename it")
            _read_part(_Part(elsewhere, SHIFTED, "shifted", elsewhere=True), _known(classes, found), params, found)
        found.folders = dict(sorted(found.folders.items()))
        found.photos.sort(key=lambda photo: photo.name)
        return found


@dataclass(frozen=True)
class _Part:
    """A folder of class folders."""

    folder: Path
    alias: str  # how the names of what lies in it begin; empty for the source folder itself
    split: Split | None
    elsewhere: bool = False  # outside the source folder

    def named(self, fault: Fault) -> Fault:
        return replace(fault, name=self.name(fault.name))

    def name(self, below: str) -> str:
        return f"{self.alias}/{below}" if self.alias else below

    def unseen_mask(self, path: Path) -> Left:
        return Left(self.name(path.relative_to(self.folder).as_posix()), "masks (ingest.masks: none)")


def _known(classes: Collection[str] | None, found: Found) -> set[str] | None:
    """Of shifted photographs those classes are read that the source has too."""
    return {*found.folders, *found.folders.values()} if classes is None else set(classes)


def _read_part(part: _Part, classes: Collection[str] | None, params: Ingest, found: Found) -> None:
    faults: list[Fault] = []
    # a class may be missing in one of several parts: what it lacks is told when images are counted
    folders = class_folders(part.folder, None if part.alias else classes, faults)
    if part.alias and classes is not None:
        others = [f for name, f in folders.items() if not {name, f} & set(classes) and f != MASK_FOLDER]
        if part.elsewhere:
            found.left += [Left(part.name(f), "folders that name no class of the source") for f in others]
        folders = {name: f for name, f in folders.items() if f not in others}
    masks = part.folder / MASK_FOLDER
    if folders.get(MASK_FOLDER) == MASK_FOLDER and len(folders) > 1 and _holds_masks(masks, folders, params):
        del folders[MASK_FOLDER]
        if params.masks == "none":
            found.left += [part.unseen_mask(p) for p in images_below(masks, part.folder).images]
    for path in visible(part.folder):
        if path.is_file() and not other_than_image(path):
            faults.append(Fault(path.name, "lies outside the class folders: put it into one"))
    for class_name, class_folder in folders.items():
        _read_class(part, class_name, class_folder, params, found, faults)
    found.faults += [part.named(fault) for fault in faults]
    if not part.elsewhere:
        found.folders |= folders


def _holds_masks(masks: Path, folders: Mapping[str, str], params: Ingest) -> bool:
    """Whether a folder ``masks`` beside the class folders holds theirs: by name, unless names mean nothing."""
    return params.masks != "none" or any((masks / folder).is_dir() for folder in folders.values())


def _read_class(
    part: _Part, class_name: str, class_folder: str, params: Ingest, found: Found, faults: list[Fault]
) -> None:
    base = part.folder / class_folder
    listing = images_below(base, part.folder)
    found.left += [replace(left, name=part.name(left.name)) for left in listing.left]
    faults += listing.faults
    named = [p for p in listing.images if _is_mask(p, base)]
    if params.masks == "none":
        named = [p for p in named if looks_like_mask(p)]
        found.left += [part.unseen_mask(p) for p in named]
        masks: dict[str, Path] = {}
    else:
        masks = {_mask_key(p, base): p for p in named}
        sibling = part.folder / MASK_FOLDER / class_folder
        if sibling.is_dir():
            masks |= {_mask_key(p, sibling): p for p in images_below(sibling, part.folder).images}
    taken = set(named)
    photos = [p for p in listing.images if p not in taken]
    if not photos:
        endings = Counter(p.suffix.lower() or p.name for p in base.rglob("*") if p.is_file())
        there = ", ".join(f"{n} {e}" for e, n in sorted(endings.items())) or "nothing"
        reason = f"no picture in this class ({there} found; pictures end in {', '.join(USUAL_ENDINGS)})"
        faults.append(Fault(class_folder, reason))
    for path in photos:
        name = path.relative_to(part.folder).as_posix()
        mask = masks.pop(_mask_key(path, base), None)
        group = _group(name, params.group_pattern, part)
        if group is None:
            faults.append(Fault(name, f"ingest.group_pattern {params.group_pattern!r} finds no group in this name"))
            continue
        found.photos.append(
            Photo(
                name=part.name(name),
                class_name=class_name,
                group=group,
                split=part.split,
                mask="" if mask is None else part.name(mask.relative_to(part.folder).as_posix()),
                base=part.folder if part.elsewhere else None,
                alias=part.alias,
            )
        )
    for path in masks.values():
        faults.append(Fault(path.relative_to(part.folder).as_posix(), "a mask without its picture"))


def _is_mask(path: Path, class_folder: Path) -> bool:
    return path.stem.endswith("_mask") or MASK_FOLDER in path.relative_to(class_folder).parts[:-1]


def _mask_key(path: Path, below: Path) -> str:
    parts = [p for p in path.relative_to(below).parts[:-1] if p != MASK_FOLDER]
    return "/".join([*parts, path.stem.removesuffix("_mask")])


def _group(name: str, pattern: str | None, part: _Part) -> str | None:
    """The group of ``<class>/<file>``; a photograph's own name, in its part, where nothing else names the spot."""
    if pattern is None:
        stem, ending = name.rpartition(".")[::2]
        return part.name(EXPORTED.sub("", stem) if EXPORTED.search(stem) and ending else name)
    match = re.search(pattern, name)
    spot = "-".join(g for g in match.groups() if g) if match else ""
    if not spot:
        return None
    # 000.png of one class and 000.png of another are different parts
    return part.name(name) if spot in (name.partition("/")[2], name.rpartition("/")[2]) else spot


MEMBER = FolderSource()
