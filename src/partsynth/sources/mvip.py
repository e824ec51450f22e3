"""MVIP (arXiv 2502.15448): photographs of used industrial parts with masks, in the data set's own folder layout.

``<class>/{train,valid,test}_data/<set>/[<rotation>/]<cam>/<cam number>_rgb.png``, each with ``*_rgb_mask_gen.png``
beside it, and ``<class>/meta.json`` with ``super_class`` (a list of names) and ``description`` (a mapping of aspects to
lists of words). Sets called ``background`` show the empty table. ``shifted_data`` beside them is our extension: other
wear, light and angles.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from partsynth.config.data import Ingest
from partsynth.records.rows import Split
from partsynth.sources.base import Fault, Found, Left, Photo
from partsynth.sources.files import class_folders, images_below

SPLIT_FOLDERS: dict[str, Split] = {
    "train_data": "train",
    "valid_data": "val",
    "test_data": "test",
    "shifted_data": "shifted",
}
MASK_ENDING = "_mask_gen"
BACKGROUND = "background"
# aspects of `description` that tell a part's state, and words that do so under any aspect
STATE_ASPECTS = {"state", "states", "condition", "conditions", "wear", "usage"}
STATE_WORDS = {
    *("new", "brand new", "used", "worn", "rusty", "rusted", "corroded", "dirty", "dusty", "oily", "greasy"),
    *("damaged", "broken", "bent", "cracked", "scratched", "dented"),
}


class MvipSource:
    """The RGB images of every class (of ``ingest.super_class``, where one is given), masks matched by name.

    An image's state are the words of its class's description that tell one, in their order.
    """

    def read(self, folder: Path, classes: Collection[str] | None, params: Ingest) -> Found:
        return read_layout(folder, classes, params.super_class, words=True)


def read_layout(
    folder: Path, classes: Collection[str] | None, super_class: str | None = None, words: bool = False
) -> Found:
    """What lies in MVIP's layout. A group is one set of one class's split: all rotations and cameras of one physical
    set. ``words``: take states from meta.json."""
    found = Found()
    found.folders = class_folders(folder, classes, found.faults)
    if super_class is not None:
        found.folders = _of_super_class(folder, super_class, found)
    for class_name, class_folder in found.folders.items():
        before = len(found.photos)
        state = _state(folder / class_folder / "meta.json", class_folder, found) if words else ""
        for split_folder, split in SPLIT_FOLDERS.items():
            base = folder / class_folder / split_folder
            if base.is_dir():
                found.photos += _photos(folder, base, class_name, split, state, found)
        if len(found.photos) == before:
            reason = f"no *_rgb picture below {', '.join(SPLIT_FOLDERS)} of this class"
            found.faults.append(Fault(class_folder, reason))
    found.photos.sort(key=lambda photo: photo.name)
    return found


def _photos(folder: Path, base: Path, class_name: str, split: Split, state: str, found: Found) -> Iterator[Photo]:
    listing = images_below(base, folder)
    found.left += listing.left
    found.faults += listing.faults
    for path in listing.images:
        parts = path.relative_to(base).parts[:-1]  # set, perhaps rotation, camera
        name = path.relative_to(folder).as_posix()
        if parts and parts[0].casefold() == BACKGROUND:
            found.left.append(Left(name, "images of the empty background"))
        elif path.stem.endswith("_rgb"):
            mask = path.with_name(f"{path.stem}{MASK_ENDING}.png")
            yield Photo(
                name=name,
                class_name=class_name,
                group="/".join([class_name, split, *parts[:1]]),
                split=split,
                state=state,
                camera=parts[-1] if len(parts) > 1 else "",
                mask=mask.relative_to(folder).as_posix() if mask.is_file() else "",
            )
        elif not path.stem.endswith(f"_rgb{MASK_ENDING}"):
            found.left.append(Left(name, "images other than *_rgb (depth and the like)"))


def _state(path: Path, class_folder: str, found: Found) -> str:
    """The words of a meta.json's description that tell a part's state; one that is there and damaged is a fault."""
    try:
        description = json.loads(path.read_text(encoding="utf-8")).get("description")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError, RecursionError):
        reason = "cannot be read as JSON: mend it, or take it away (it tells super_class and states)"
        found.faults.append(Fault(f"{class_folder}/meta.json", reason, True))
        return ""
    if description is None or isinstance(description, str):
        return ""
    if not _is_readable(description):
        reason = "description must map aspects (state, ...) to words: mend it, or take it away (it tells states)"
        found.faults.append(Fault(f"{class_folder}/meta.json", reason, True))
        return ""
    chosen = [
        word
        for aspect, told in description.items()
        for word in _texts(told)
        if aspect.casefold() in STATE_ASPECTS or word.casefold() in STATE_WORDS
    ]
    return " ".join(dict.fromkeys(chosen))


def _is_readable(description: Any) -> bool:
    """Whether it is a mapping, and what tells a state in it words."""
    return isinstance(description, dict) and all(
        told in (None, "", []) or _texts(told)
        for aspect, told in description.items()
        if aspect.casefold() in STATE_ASPECTS
    )


def _texts(value: Any) -> list[str]:
    """A name or a list of names, as a list."""
    values = value if isinstance(value, list) else [value]
    return [text.strip() for text in values if isinstance(text, str) and text.strip()]


def _of_super_class(folder: Path, super_class: str, found: Found) -> dict[str, str]:
    kept, seen = {}, set()
    for class_name, class_folder in found.folders.items():
        path = folder / class_folder / "meta.json"
        try:
            names = _texts(json.loads(path.read_text(encoding="utf-8"))["super_class"])
            if not names:
                raise ValueError("no name")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else "has no readable super_class"
            found.faults.append(Fault(f"{class_folder}/meta.json", f"{why} (ingest.super_class needs it)", True))
            continue
        seen |= set(names)
        if super_class in names:
            kept[class_name] = class_folder
    if not kept:
        reason = f"no class of ingest.super_class {super_class!r}; there are: {', '.join(sorted(seen)) or 'none'}"
        found.faults.append(Fault(folder.name, reason, True))
    return kept


MEMBER = MvipSource()
