"""Where real photographs come from. A source lists what is in a folder; it opens no image and decides no split.

One more source is one more module of this room with a ``Source`` as ``MEMBER``, and its name in ``seams.SOURCES``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, get_args

from partsynth.config.data import Ingest
from partsynth.records.rows import Role, Split
from partsynth.store.hashing import sha256_bytes

SPLITS, ROLES = get_args(Split), get_args(Role)
LONGEST = 100  # bytes of a name


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
    base: Path | None = None  # of a photograph that lies elsewhere: what the names below ``alias`` are relative to
    alias: str = ""  # how its names begin

    def path(self, raw: Path) -> Path:
        """Where the photograph lies."""
        return self._place(raw, self.name)

    def mask_path(self, raw: Path) -> Path:
        """Where its mask lies."""
        return self._place(raw, self.mask)

    def _place(self, raw: Path, name: str) -> Path:
        return raw / name if self.base is None else self.base / name.removeprefix(f"{self.alias}/")


@dataclass(frozen=True)
class Fault:
    """What is wrong with one thing in a source; a ``fatal`` one cannot be skipped.

    The reasons of those that can are listed in data/real/skipped.csv: other words are other data.
    """

    name: str
    reason: str
    fatal: bool = False


@dataclass(frozen=True)
class Left:
    """A file or folder that is no photograph of a class, and what kind of thing it is."""

    name: str
    kind: str  # in words, as the summary counts it


@dataclass
class Found:
    """All that a source saw, photographs sorted by name."""

    photos: list[Photo] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
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
    return short_name(re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", folder)).strip("._-"), folder)


def short_name(name: str, of: str) -> str:
    """``name`` where it is at most LONGEST bytes; else its beginning and a hash of ``of``, which it stands for.

    File systems take 255 bytes for a name, and more is added to this one: a Chinese character has three.
    """
    return name if len(name.encode()) <= LONGEST else f"{cut(name)}-{sha256_bytes(of.encode())[:8]}"


def cut(name: str) -> str:
    """The first 80 bytes of a name, or a few less: no character is divided."""
    return name.encode()[:80].decode(errors="ignore")
