"""Where real photographs come from. A source lists what is in a folder; it opens no image and decides no split.

One more source is one more module of this room with a ``Source`` as ``MEMBER``, and its name in ``seams.SOURCES``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, get_args

from partsynth.config.data import Ingest
from partsynth.records.rows import Role, Split

SPLITS, ROLES = get_args(Split), get_args(Role)
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Photo:
    """One photograph as its source describes it. Names are relative to the source folder, with slashes."""

    name: str
    class_name: str
    group: str  # photographs of one physical part or spot share it, across classes too
    split: Split | None = None  # None where the source has none, so that ingest draws it by group
    role: Role = "target"
    state: str = ""
    camera: str = ""
    mask: str = ""  # empty where there is none
    sha256: str = ""  # where the source's own manifest promises one


@dataclass(frozen=True)
class Fault:
    """What is wrong with one thing in a source; a ``fatal`` one cannot be skipped.

    The reasons of those that can are listed in data/real/skipped.csv: other words are other data.
    """

    name: str
    reason: str
    fatal: bool = False


@dataclass
class Found:
    """All that a source saw, photographs sorted by name."""

    photos: list[Photo] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    folders: dict[str, str] = field(default_factory=dict)  # class name -> its folder's name


class Source(Protocol):
    """One layout of photographs."""

    def read(self, folder: Path, classes: Collection[str] | None, params: Ingest) -> Found:
        """List the photographs below ``folder``.

        Parameters
        ----------
        folder : exists
        classes : names of the classes, or of their folders, that are wanted; None = all there are
        params : section ingest, of which a source reads the keys that are its own
        """


def class_name(folder: str) -> str:
    """A folder's name as a class name: letters, digits, ``_``, ``-`` and ``.``, fit for file names and tokens."""
    return re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", folder)).strip("._-")


def class_folders(folder: Path, wanted: Collection[str] | None, faults: list[Fault]) -> dict[str, str]:
    """Class name -> folder name, sorted, of the visible folders in ``folder``; those of ``wanted`` alone (either name).

    Two folders of one class name (``Gear`` and ``gear`` too), a name without a letter or digit, and a wanted class that
    is not there become faults.
    """
    found: dict[str, str] = {}
    for path in visible(folder):
        if not path.is_dir() or (wanted is not None and not {path.name, class_name(path.name)} & set(wanted)):
            continue
        name = class_name(path.name)
        twin = next((f for c, f in found.items() if c.casefold() == name.casefold()), None)
        if not name:
            faults.append(Fault(path.name, "a class folder needs a letter or digit in its name", True))
        elif twin is not None:
            faults.append(Fault(path.name, f"names the same class as the folder {twin!r}: rename one", True))
        else:
            found[name] = path.name
    here = {n for pair in found.items() for n in pair}
    for name in sorted(set(wanted or []) - here):
        there = ", ".join(p.name for p in visible(folder) if p.is_dir()) or "no folders"
        faults.append(Fault(name, f"no such class folder; there are: {there}", True))
    return dict(sorted(found.items()))


def visible(folder: Path) -> Sequence[Path]:
    """The entries of a folder by name, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def images_below(folder: Path) -> Iterable[Path]:
    """The image files below a folder, by path, hidden files and folders left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in IMAGE_ENDINGS and not hidden and path.is_file():
            yield path
