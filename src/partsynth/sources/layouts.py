"""Folders that are laid out for more than classes: given splits are used, layouts of other tasks are named."""

from __future__ import annotations

from pathlib import Path

from partsynth.errors import UserError
from partsynth.records.rows import Split
from partsynth.sources.files import IMAGE_ENDINGS, visible

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "shifted": "shifted",
}
BESIDE = ("masks", "ground_truth")  # folders that may lie beside splits


def split_folders(folder: Path) -> dict[str, Split]:
    """Folder name -> split, where the source folder's own folders are splits that hold class folders; else empty.

    Raises
    ------
    UserError
        where two folders name one split (val and valid).
    """
    found: dict[str, Split] = {}
    for path in _folders(folder):
        split = SPLIT_NAMES.get(path.name.casefold())
        if split is None or not _folders(path) or _has_images(path):
            return {}  # a class that is called test is one among others
        if split in found.values():
            twin = next(name for name, other in found.items() if other == split)
            raise UserError(f"{folder}: the folders {twin!r} and {path.name!r} both name the split {split}: merge them")
        found[path.name] = split
    return found if "train" in found.values() and len(found) > 1 else {}


def refuse_other_layouts(folder: Path) -> None:
    """
    Raises
    ------
    UserError
        where the folder is a data set for finding defects or objects, which has no class folders, or where they lie
        one folder deeper.
    """
    folders = _folders(folder)
    names = {path.name.casefold() for path in folders}
    train, test = folder / "train", folder / "test"
    if [p.name for p in _folders(train)] == ["good"] and _folders(test):
        defects = ", ".join(p.name for p in _folders(test))
        raise UserError(
            f"{folder} is laid out as MVTec AD and anomalib do (train/good, test/{{{defects}}}): only 'good' can be "
            "trained on there, and classes are told apart here; put the images of good and of each defect into one "
            "folder per class (masks, from ground_truth, into masks/<class>/)"
        )
    for here in (folder, train):
        inside = {path.name.casefold() for path in _folders(here)}
        for images, labels, whose in (("images", "labels", "YOLO"), ("jpegimages", "annotations", "Pascal VOC")):
            if {images, labels} <= inside:
                raise UserError(
                    f"{here} is laid out for finding objects, as {whose} does ({images} beside {labels}): cut the "
                    "parts out and put them into one folder per class"
                )
    if names and names <= {"images", "annotations"} and len(names) == 2:
        raise UserError(f"{folder} is laid out as COCO has it (images beside annotations): make one folder per class")
    if len(folders) == 1 and len(_folders(folders[0])) > 1 and not _has_images(folders[0]) and not _has_images(folder):
        raise UserError(
            f"{folder} holds one folder alone, {folders[0].name!r}, and the class folders lie in it: name that one"
        )


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [p for p in visible(folder) if p.is_dir() and p.name.casefold() not in BESIDE]


def _has_images(folder: Path) -> bool:
    return any(p.suffix.lower() in IMAGE_ENDINGS for p in visible(folder) if p.is_file())
