"""Where DVC's objects lie, to be searched and taken away for good: the cache here, or a remote."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from partsynth.errors import UserError
from partsynth.lineage.objects import Objects

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB


class Store(Protocol):
    """Objects by md5; a folder's listing ends in ``.dir``."""

    name: str

    def listings(self) -> list[str]:
        """The md5s of all folders' listings, sorted."""

    def holds(self, md5s: Iterable[str]) -> set[str]:
        """Those that are there."""

    def read(self, md5: str) -> bytes | None:
        """An object's bytes, None where it is not there; whoever asks checks them."""

    def remove(self, md5: str) -> None:
        """Take an object away; one that is not there is no fault."""


class Cache:
    """The project's DVC cache."""

    name = "cache"

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def listings(self) -> list[str]:
        return sorted(path.parent.name + path.name for path in self._objects.cache.glob("??/*.dir"))

    def holds(self, md5s: Iterable[str]) -> set[str]:
        return {md5 for md5 in md5s if self._objects.path(md5).is_file()}

    def read(self, md5: str) -> bytes | None:
        try:
            return self._objects.path(md5).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, md5: str) -> None:
        path: Path = self._objects.path(md5)
        path.unlink(missing_ok=True)


class Remote:
    """One of DVC's remotes.

    Raises
    ------
    UserError
        where there is no remote of this name, it is one that keeps versions of files instead of objects, or it cannot
        be reached.
    """

    def __init__(self, objects: Objects, name: str) -> None:
        if name not in objects.remotes:
            known = f"there are {', '.join(objects.remotes)}" if objects.remotes else "dvc remote add makes one"
            raise UserError(f"DVC has no remote {name!r}: {known}")
        self.name = name
        self._odb: HashFileDB = objects.database_of(name)
        try:
            self._all = set(self._odb.all()) if self._odb.fs.exists(self._odb.path) else set()
        except Exception as error:  # whatever a file system's client raises
            raise UserError(f"DVC's remote {name} cannot be read: {error}") from None

    def listings(self) -> list[str]:
        return sorted(md5 for md5 in self._all if md5.endswith(".dir"))

    def holds(self, md5s: Iterable[str]) -> set[str]:
        return self._all & set(md5s)

    def read(self, md5: str) -> bytes | None:
        if md5 not in self._all:
            return None
        with contextlib.suppress(FileNotFoundError):
            return self._odb.fs.cat_file(self._odb.oid_to_path(md5))
        return None

    def remove(self, md5: str) -> None:
        """
        Raises
        ------
        UserError
            where the remote does not let it be removed.
        """
        try:
            self._odb.delete(md5)
        except FileNotFoundError:
            pass
        except Exception as error:
            raise UserError(f"DVC's remote {self.name} does not let object {md5} be removed: {error}") from None
        self._all.discard(md5)
