"""Files that are made beside their place and moved there whole. A process holds a lock on its own drafts, so that what
a killed one left behind can be told from what another is writing right now, and goes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_DRAFT = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp")  # the names that tempfile makes of prefix and suffix below
_SWEPT: set[str] = set()  # folders that this process has looked through


def draft_file(path: Path) -> tuple[int, str]:
    """A new file beside ``path``: its descriptor, held until it is closed, and its name."""
    sweep(path.parent)
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        _hold(handle)
        if os.fstat(handle).st_nlink:  # else another process swept it before it was held
            return handle, name
        os.close(handle)


@contextlib.contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, gone when the block ends unless it was moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    handle = os.open(folder, os.O_RDONLY)
    try:
        _hold(handle)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove the drafts in ``folder`` that no process holds: all of them, once per process, or those of one name."""
    here = os.path.abspath(folder)
    if name is None:
        if here in _SWEPT:
            return
        _SWEPT.add(here)
    with contextlib.suppress(OSError), os.scandir(here) as entries:
        for entry in list(entries):
            draft = _DRAFT.fullmatch(entry.name)
            if draft and name in (None, draft[1]) and not entry.is_symlink():
                _remove_unheld(entry)


def _remove_unheld(entry: os.DirEntry[str]) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        finally:
            os.close(handle)


def _hold(handle: int) -> None:
    with contextlib.suppress(OSError):  # a file system without locks: nothing is swept there either
        fcntl.flock(handle, fcntl.LOCK_EX)
