"""States of the data: the workspace, or what a run saw, read by hash."""

from __future__ import annotations

import contextlib
import functools
import mmap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from partsynth.audit.runs import RunRecord, recorded_graph
from partsynth.errors import UserError
from partsynth.lineage.graph import covers, outputs
from partsynth.lineage.objects import Objects
from partsynth.store.hashing import sha256_bytes
from partsynth.store.layout import AUGMENTED, MANIFEST, REVIEW, SELECTED
from partsynth.store.shards import index, read_member, split_name
from partsynth.tracking.query import read_artifact

Table = bytes | mmap.mmap
LARGE = 16_000_000  # bytes: few objects of this size are kept in memory


class Version:
    """One state of the data: the workspace, or (``objects`` and ``outs`` given) what a run saw, read by hash.

    Parameters
    ----------
    root : the project's
    objects : where the files of a run's version are read from
    outs : path -> md5 of every output in the run's stage graph
    kept : a file that the run itself keeps, which DVC does not
    """

    def __init__(
        self,
        root: Path,
        objects: Objects | None = None,
        outs: dict[str, str] | None = None,
        kept: Callable[[str], bytes | None] = lambda path: None,
    ) -> None:
        self.root, self._objects, self._outs, self._kept = root, objects, outs, kept

    @property
    def is_workspace(self) -> bool:
        return self._outs is None

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where this version has no such file.

        Raises
        ------
        UserError
            where a run saw the file, and neither cache nor remotes have it whole.
        """
        if self._outs is None or self._objects is None:
            file, member = split_name(path)
            try:
                here = self.root / file  # DVC may have linked it to its cache
                return read_member(here, member) if member else here.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None
        for out, md5 in self._outs.items():
            if out == path:
                return read_object(self._objects, md5)
            if md5.endswith(".dir") and covers(out, path):
                file, member = split_name(path)
                inner = read_listing(self._objects, md5).get(file[len(out) + 1 :])
                if inner is None:
                    return None
                return _member(self._objects, inner, member) if member else read_object(self._objects, inner)
        return self._kept(path)

    def table(self, path: str) -> Table | None:
        """As ``read``; a file of the workspace is not copied into memory, so that a large one is searched at once."""
        if not self.is_workspace:
            return self.read(path)
        try:
            with open(self.root / path, "rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):  # the last: an empty file
            return self.read(path)

    def members(self, shard: str) -> list[str]:
        """The names of what lies in a shard; none where this version has no such file. Raises as ``read`` does."""
        if self._outs is None or self._objects is None:
            return list(index(self.root / shard)) if (self.root / shard).is_file() else []
        for out, md5 in self._outs.items():
            if md5.endswith(".dir") and covers(out, shard):
                inner = read_listing(self._objects, md5).get(shard[len(out) + 1 :])
                return [] if inner is None else list(index(_fetched(self._objects, inner)))
        return []

    def sets(self) -> list[str]:
        """The folders of its augmentation sets."""
        if self._outs is not None:
            return sorted(path for path in self._outs if covers(AUGMENTED, path))
        folders = (self.root / AUGMENTED).glob(f"*/{MANIFEST}")
        return sorted(path.parent.relative_to(self.root).as_posix() for path in folders)

    def tables(self) -> list[str]:
        """Its training tables."""
        if self._outs is not None:
            return sorted(path for path in self._outs if covers(SELECTED, path))
        return sorted(path.relative_to(self.root).as_posix() for path in (self.root / SELECTED).glob("*.csv"))


def version_of(root: Path, objects: Objects, run: RunRecord) -> Version:
    """What a run saw. Raises UserError where its stage graph is missing or unsound."""
    graph = recorded_graph(root, run)
    files = graph.get("files", {})

    def kept(path: str) -> bytes | None:
        return _kept_file(root, run, path, files[path]) if path in files and covers(REVIEW, path) else None

    return Version(root, objects, outputs(graph["stages"]), kept)


def _kept_file(root: Path, run: RunRecord, name: str, sha256: str) -> bytes:
    """A file that a run keeps. Raises UserError where it is missing or altered."""
    if run.record is not None:
        data = run.record.get("files", {}).get(name, "").encode()
    else:
        data = read_artifact(root, run.run_id, f"lineage/{name}") or b""
    if sha256_bytes(data) != sha256:
        raise UserError(f"the copy of {name} kept with run {run.run_id} is missing or altered")
    return data


def distinct_versions(root: Path, objects: Objects, runs: Sequence[RunRecord]) -> Iterator[tuple[RunRecord, Version]]:
    """Each distinct state of the data that a traceable run saw, the newest first."""
    seen: set[tuple[str, ...]] = set()
    for run in reversed(runs):
        data = tuple(sorted(f"{i.path} {i.digest}" for i in run.inputs))
        if data in seen or not run.training_table:
            continue
        seen.add(data)
        with contextlib.suppress(UserError):  # of a run without lineage nothing can be said
            yield run, version_of(root, objects, run)


def read_object(objects: Objects, md5: str) -> bytes:
    """A file by its hash, fetched where the cache lacks it. Raises UserError where nobody has it."""
    large = _fetched(objects, md5).stat().st_size > LARGE
    return (_read_large if large else _read)(objects, md5)


@functools.lru_cache(maxsize=64)
def _read(objects: Objects, md5: str) -> bytes:
    return objects.read(md5)


@functools.lru_cache(maxsize=2)
def _read_large(objects: Objects, md5: str) -> bytes:
    return objects.read(md5)


def _member(objects: Objects, md5: str, member: str) -> bytes | None:
    """An image of a shard by the shard's hash; the image's own hash is for the caller to check, as of any file."""
    with contextlib.suppress(FileNotFoundError):
        return read_member(_fetched(objects, md5), member)
    return None


@functools.lru_cache(maxsize=64)
def read_listing(objects: Objects, md5: str) -> dict[str, str]:
    """Relative path -> md5 of a folder by its hash. Raises UserError where nobody has its listing."""
    _fetched(objects, md5)
    return objects.listing(md5)


def _fetched(objects: Objects, md5: str) -> Path:
    """Where an object lies in the cache, fetched where it lacks. Raises UserError where nobody has it."""
    path = objects.path(md5)
    if not path.is_file():
        objects.fetch([md5])
        if not path.is_file():
            objects.read(md5)  # it says what lacks
    return path
