"""Photographs of other things, which any source may be given beside its own: far-OOD."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

from partsynth.errors import UserError
from partsynth.sources.base import Fault, Found, Left, Photo, class_name
from partsynth.sources.files import images_below
from partsynth.sources.masks import looks_like_mask
from partsynth.store.hashing import sha256_bytes

FAR = "far"  # how their names begin


def read_far(folder: Path, classes: Collection[str], limit: int | None = None) -> Found:
    """The images below ``folder``, each a group of its own, in the role far_ood; masks among them are left out.

    Parameters
    ----------
    folder : class folders, or images alone, which then are of one class that is called as the folder is
    classes : names of the source's classes; a folder of one of these names is a fault
    limit : images that are taken, the same of the same names, as evenly over classes as can be; None = all

    Raises
    ------
    UserError
        where there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"ood.far: {folder}: no such folder")
    listing = images_below(folder, folder)
    found = Found(
        left=[replace(left, name=f"{FAR}/{left.name}") for left in listing.left],
        faults=[replace(fault, name=f"{FAR}/{fault.name}") for fault in listing.faults],
    )
    for path in listing.images:
        below = path.relative_to(folder)
        name = f"{FAR}/{below.as_posix()}"
        if (path.stem.endswith("_mask") or "masks" in below.parts[:-1]) and looks_like_mask(path):
            found.left.append(Left(name, "masks (far-OOD has none)"))
            continue
        kind = class_name(below.parts[0] if len(below.parts) > 1 else folder.resolve().name) or FAR
        found.photos.append(Photo(name=name, class_name=kind, group=name, role="far_ood", base=folder, alias=FAR))
    if not found.photos:
        raise UserError(f"ood.far: {folder} holds no image")
    if limit is not None and len(found.photos) > limit:
        taken = {photo.name for photo in _evenly(found.photos, limit)}
        found.left += [
            Left(photo.name, f"beyond the {limit} of ood.far_images")
            for photo in found.photos
            if photo.name not in taken
        ]
        found.photos = [photo for photo in found.photos if photo.name in taken]
    known = {name.casefold() for name in classes}
    for kind in sorted({photo.class_name for photo in found.photos}):
        if kind.casefold() in known:
            found.faults.append(Fault(f"{FAR}/{kind}", "is a class of the source too: far-OOD is other things", True))
    return found


def _evenly(photos: Sequence[Photo], limit: int) -> list[Photo]:
    """One of each class after the other, in an order that their names draw, until there are ``limit``."""
    drawn = sorted(photos, key=lambda photo: sha256_bytes(photo.name.encode()))
    turns = {kind: iter([p for p in drawn if p.class_name == kind]) for kind in sorted({p.class_name for p in photos})}
    rounds = zip_longest(*turns.values())
    return list(islice((photo for turn in rounds for photo in turn if photo is not None), limit))
