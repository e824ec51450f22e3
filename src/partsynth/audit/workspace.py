"""The files of a workspace, each read once for both of its hashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from partsynth.lineage.digests import listing_md5, md5_bytes, path_md5
from partsynth.store.hashing import sha256_bytes
from partsynth.store.shards import read_member, split_name


class Hashes(NamedTuple):
    """Of one file: DVC's, and the manifests'."""

    md5: str
    sha256: str


class Workspace:
    """The files below ``root``, each read once for both of its hashes."""

    def __init__(self, root: Path, ignored: Callable[[str], bool] = lambda path: False) -> None:
        self.root = root
        self._ignored = ignored  # of an absolute path, by .dvcignore
        self._hashes: dict[str, Hashes | None] = {}

    def read(self, path: str) -> bytes:
        """A file's bytes, or those of an image in a shard. Raises OSError where there is none."""
        file, member = split_name(path)
        here = self.root / file  # DVC may have linked it to its cache
        return read_member(here, member) if member else here.read_bytes()

    def hashes(self, path: str) -> Hashes | None:
        """None where there is no such file. Raises UserError where it would lie in a shard that is damaged."""
        if path not in self._hashes:
            try:
                data = self.read(path)
                self._hashes[path] = Hashes(md5_bytes(data), sha256_bytes(data))
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                self._hashes[path] = None
        return self._hashes[path]

    def files(self, folder: str) -> dict[str, str]:
        """Relative path -> md5 of what DVC would count below a folder."""
        top = self.root / folder
        names = sorted(p.relative_to(self.root).as_posix() for p in top.rglob("*") if p.is_file())
        found = {name: self.hashes(name) for name in names if not self._ignored(str(self.root / name))}
        return {name[len(folder) + 1 :]: both.md5 for name, both in found.items() if both is not None}

    def digest(self, path: str) -> str | None:
        """DVC's digest of a file or folder as it lies there; None where there is nothing."""
        outside = Path(path)
        if outside.is_absolute() or ".." in outside.parts:
            return path_md5(self.root / outside)
        if (self.root / path).is_dir():
            return listing_md5(self.files(path))
        both = self.hashes(path)
        return None if both is None else both.md5
