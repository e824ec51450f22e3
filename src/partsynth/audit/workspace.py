"""The files of a workspace, each read once for both of its hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from partsynth.lineage.digests import listing_md5

REAL, OOD, TOKENS = "data/real", "data/ood", "models/tokens"


@dataclass(frozen=True)
class Fault:
    """``path`` is relative to the root where it names a file of the project."""

    path: str
    message: str


class Workspace:
    """The files below ``root``, each read once for both of its hashes."""

    def __init__(self, root: Path, ignored: Callable[[str], bool]) -> None:
        self.root = root
        self._ignored = ignored
        self._hashes: dict[str, tuple[str, str] | None] = {}

    def hashes(self, path: str) -> tuple[str, str] | None:
        """(md5, sha256) of a file; None where there is none."""
        if path not in self._hashes:
            try:
                data = (self.root / path).read_bytes()  # DVC may have linked it to its cache
                self._hashes[path] = (
                    hashlib.md5(data, usedforsecurity=False).hexdigest(),
                    hashlib.sha256(data).hexdigest(),
                )
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                self._hashes[path] = None
        return self._hashes[path]

    def files(self, folder: str) -> dict[str, str]:
        """Relative path -> md5 of what DVC would count below a folder."""
        top = self.root / folder
        names = sorted(p.relative_to(self.root).as_posix() for p in top.rglob("*") if p.is_file())
        found = {name: self.hashes(name) for name in names if not self._ignored(str(self.root / name))}
        return {name[len(folder) + 1 :]: both[0] for name, both in found.items() if both is not None}

    def digest(self, path: str) -> str | None:
        """DVC's digest of a file or folder as it lies there."""
        if (self.root / path).is_dir():
            return listing_md5(self.files(path))
        both = self.hashes(path)
        return both and both[0]
