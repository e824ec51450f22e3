"""A folder made like another one again and again: only what was changed since is copied, and hashed."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

Mark = tuple[int, int, int, int, int]


def mark(path: Path) -> Mark:
    """What changes with every write to a file: the kernel keeps the time of its last change, nobody sets it."""
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode


class Mirror:
    """``place`` as a copy of ``source``, which nobody changes."""

    def __init__(self, source: Path, place: Path) -> None:
        self.source, self.place = source, place
        self._copied: dict[str, Mark] = {}
        self.digests: dict[tuple[str, Mark], str] = {}  # of files, for ``forked.listing``

    def restore(self) -> None:
        """Whatever was added, removed or changed below ``place`` is undone."""
        self.place.mkdir(parents=True, exist_ok=True)
        self._like(self.source, self.place, "")

    def changed(self, path: Path) -> None:
        """A file that is changed right now, perhaps within one tick of the clock since it was copied."""
        self._copied.pop(os.path.relpath(path, self.place), None)

    def _like(self, source: Path, place: Path, within: str) -> None:
        wanted = {entry.name: entry for entry in os.scandir(source)}
        for entry in list(os.scandir(place)):
            other = wanted.get(entry.name)
            both_folders = _is_folder(entry) and other is not None and _is_folder(other)
            kept = other is not None and self._copied.get(within + entry.name) == mark(Path(entry.path))
            if not both_folders and not kept:
                _remove(Path(entry.path), _is_folder(entry))
        for name, entry in wanted.items():
            path = place / name
            if _is_folder(entry):
                path.mkdir(exist_ok=True)
                path.chmod(stat.S_IMODE(entry.stat().st_mode))
                self._like(Path(entry.path), path, f"{within}{name}/")
            elif not os.path.lexists(path):
                shutil.copy2(entry.path, path, follow_symlinks=False)
                self._copied[within + name] = mark(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _remove(path: Path, folder: bool) -> None:
    if folder:
        shutil.rmtree(path)
    else:
        path.unlink()
