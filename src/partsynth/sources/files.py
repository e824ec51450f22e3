"""What lies in folders of photographs: images, by ending or content, and what file systems and programs leave there."""

from __future__ import annotations

import fnmatch
import importlib.util
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from partsynth.sources.base import Fault, Left, class_name

HEIF_ENDINGS = (".heic", ".heif", ".hif")
USUAL_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
IMAGE_ENDINGS = (
    *USUAL_ENDINGS,
    *(".jpe", ".jfif", ".mpo", ".gif", ".jp2", ".j2k", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
)
HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
HEIF_REMEDY = "pip install 'partsynth[heif]' reads them"
# photographs and films in formats that Pillow does not open
OTHER_PHOTOGRAPHS = {
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".raw"),
    *(".bayer", ".psd", ".exr", ".hdr", ".jxl", ".dcm", ".mp4", ".mov", ".avi"),
}
RUBBISH = "rubbish of file systems"
# Synology, QNAP, macOS, Windows, Picasa, editors and downloads that did not end
RUBBISH_NAMES = (
    *(".*", "@*", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "system volume information", "lost+found"),
    *("thumbs.db", "ehthumbs*.db", "desktop.ini", "picasa.ini", "icon\r", "synofile_thumb*"),
    *("~$*", "*~", "*.tmp", "*.part", "*.crdownload"),
)


@dataclass
class Listing:
    """What lies below a folder; images by path."""

    images: list[Path] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def is_rubbish(name: str) -> bool:
    """Whether a file or folder of this name is a file system's or a program's own (hidden ones, thumbnails, ...)."""
    low = name.lower()
    return any(fnmatch.fnmatchcase(low, pattern) for pattern in RUBBISH_NAMES)


def printable(name: str) -> str:
    """A name as it can be told: bytes that are no UTF-8 as ``\\udcf6``."""
    return name.encode("utf-8", "backslashreplace").decode()


def name_fault(path: Path, below: Path) -> Fault | None:
    """Why a file or folder cannot be used for its name or kind: no UTF-8, a linked folder, a link to nothing."""
    name = printable(path.relative_to(below).as_posix())
    if printable(path.name) != path.name:
        return Fault(name, "its name is no UTF-8: rename it (convmv -f latin1 -t utf8 does)")
    if path.is_symlink() and path.is_dir():
        return Fault(name, "a linked folder: DVC follows none, its images would be in no version; copy it here")
    if not path.exists():
        return Fault(name, "a link to nothing")
    return None


def class_folders(folder: Path, wanted: Collection[str] | None, faults: list[Fault]) -> dict[str, str]:
    """Class name -> folder name, sorted, of the visible folders in ``folder``; those of ``wanted`` alone (either name).

    Two folders of one class name (``Gear`` and ``gear`` too), a name without a letter or digit, and a wanted class that
    is not there become faults.
    """
    found: dict[str, str] = {}
    for path in visible(folder):
        if path.is_dir() and (fault := name_fault(path, folder)):
            faults.append(fault)
            continue
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
        there = ", ".join(printable(p.name) for p in visible(folder) if p.is_dir()) or "no folders"
        faults.append(Fault(name, f"no such class folder; there are: {there}", True))
    return dict(sorted(found.items()))


def visible(folder: Path) -> Sequence[Path]:
    """The entries of a folder by name; rubbish of file systems is left out."""
    return sorted(p for p in folder.iterdir() if not is_rubbish(p.name))


def images_below(folder: Path, below: Path) -> Listing:
    """The images below ``folder``, and what else lies there; names are told relative to ``below``.

    An image is a file with one of IMAGE_ENDINGS, or one that begins as an image does, whatever its name.
    """
    found = Listing()

    def unreadable(error: OSError) -> None:
        name = printable(Path(error.filename).relative_to(below).as_posix())
        found.faults.append(Fault(name, f"cannot be read: {error.strerror}"))

    for here, folders, files in os.walk(folder, onerror=unreadable):
        kept = []
        for name in sorted(folders):
            path = Path(here, name)
            if is_rubbish(name):
                found.left.append(_left(path, below, RUBBISH))
            elif fault := name_fault(path, below):
                found.faults.append(fault)
            else:
                kept.append(name)
        folders[:] = kept
        for name in sorted(files):
            path = Path(here, name)
            if is_rubbish(name):
                found.left.append(_left(path, below, RUBBISH))
            elif fault := name_fault(path, below):
                found.faults.append(fault)
            elif other := other_than_image(path):
                found.left.append(_left(path, below, other))
            else:
                found.images.append(path)
    found.images.sort()
    return found


def other_than_image(path: Path) -> str:
    """What a file is that is no image to be read, for the summary; empty for an image."""
    ending = path.suffix.lower().strip()
    if ending in IMAGE_ENDINGS and path.suffix.strip() == path.suffix:
        return ""
    content = "" if not path.is_file() else content_of(_head(path))
    if ending in HEIF_ENDINGS or content == "HEIF":
        return "" if HAS_HEIF else f"{ending or 'HEIF'} ({HEIF_REMEDY})"
    if content:
        return ""
    if ending in OTHER_PHOTOGRAPHS:
        return f"{ending} (not read: save them as PNG, TIFF or JPEG)"
    return ending or "files without an ending"


def content_of(head: bytes) -> str:
    """The image format that a file's first 16 bytes tell; empty for none that is read."""
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n":
        return "JPEG 2000"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return (
            "AVIF" if brand in (b"avif", b"avis") else "HEIF" if brand[:3] in (b"hei", b"hev", b"mif", b"msf") else ""
        )
    return ""


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _left(path: Path, below: Path, kind: str) -> Left:
    return Left(printable(path.relative_to(below).as_posix()), kind)
