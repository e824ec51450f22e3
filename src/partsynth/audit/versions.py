"""States of the data: the workspace, or what a run saw, read by hash."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partsynth.audit.runs import RunRecord, outputs, stage_graph
from partsynth.audit.workspace import OOD, REAL
from partsynth.errors import UserError
from partsynth.lineage.graph import covers
from partsynth.lineage.objects import Objects
from partsynth.records.rows import AugmentedRecord, RealRecord, Record
from partsynth.store.hashing import sha256_bytes

SHA = re.compile(r"^[0-9a-f]{8,64}$")
AUGMENTED, SELECTED = "data/augmented", "data/selected"


class Version:
    """One state of the data: the workspace (``graph`` None), or what a run saw, read by hash."""

    def __init__(self, root: Path, objects: Objects | None = None, graph: dict[str, Any] | None = None) -> None:
        self.root, self._objects = root, objects
        self.outs = outputs(graph) if graph else None

    def md5(self, path: str) -> str | None:
        """Of a file of a run's version, found in its folder's listing."""
        for out, md5 in (self.outs or {}).items():
            if out == path:
                return md5
            if md5.endswith(".dir") and covers(out, path):
                return read_listing(self._objects, md5).get(path[len(out) + 1 :])
        return None

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where this version has no such file."""
        if self.outs is None:
            try:
                return (self.root / path).read_bytes()  # DVC may have linked it to its cache
            except (FileNotFoundError, IsADirectoryError):
                return None
        md5 = self.md5(path)
        return None if md5 is None else read_object(self._objects, md5)

    def sets(self) -> list[str]:
        if self.outs is not None:
            return sorted(path for path in self.outs if covers(AUGMENTED, path))
        folders = (self.root / AUGMENTED).glob("*/manifest.csv")
        return sorted(path.parent.relative_to(self.root).as_posix() for path in folders)

    def tables(self) -> list[str]:
        if self.outs is not None:
            return sorted(path for path in self.outs if covers(SELECTED, path))
        return sorted(path.relative_to(self.root).as_posix() for path in (self.root / SELECTED).glob("*.csv"))


@functools.lru_cache(maxsize=64)
def read_object(objects: Objects, md5: str) -> bytes:
    objects.fetch([md5])
    return objects.read(md5)


@functools.lru_cache(maxsize=64)
def read_listing(objects: Objects, md5: str) -> dict[str, str]:
    if not objects.path(md5).is_file():
        objects.fetch([md5])
    return objects.listing(md5)


def rows_with(data: bytes | None, kind: type[Record], needle: str, path: str) -> list[Any]:
    """The manifest's rows whose text holds ``needle``; only these are parsed, so 10,000 rows take milliseconds."""
    if data is None:
        return []
    text = data.decode()
    if needle not in text:
        return []
    head, _, body = text.partition("\n")
    lines = [line for line in body.splitlines() if needle in line]
    try:
        return [kind.model_validate(row) for row in csv.DictReader(io.StringIO("\n".join([head, *lines])))]
    except ValueError as error:
        raise UserError(f"{path} has a faulty row: {error}") from None


def _pictures(version: Version, what: str) -> list[tuple[str, Any]]:
    """(manifest, row) of every picture whose path or sha256 (or its beginning) is ``what``."""
    found: list[tuple[str, Any]] = []
    kinds: list[tuple[str, type[Record]]] = [(f"{REAL}/manifest.csv", RealRecord), (f"{OOD}/manifest.csv", RealRecord)]
    kinds += [(f"{folder}/manifest.csv", AugmentedRecord) for folder in version.sets()]
    for path, kind in kinds:
        for row in rows_with(version.read(path), kind, what, path):
            if row.path == what or (SHA.match(what) and row.sha256.startswith(what)):
                found.append((path, row))
    return found


@dataclass
class Found:
    version: Version
    label: str  # "workspace" or the run whose version it is
    manifest: str
    row: Any


def find_picture(root: Path, objects: Objects, runs: list[RunRecord], what: str) -> Found:
    """A picture by path or sha256, in the workspace, else in what earlier runs were trained on."""
    wanted, on_disk = needles(root, what)
    for needle in wanted:
        rows = _pictures(workspace := Version(root), needle)
        if len({row.sha256 for _, row in rows}) > 1:
            named = ", ".join(row.path for _, row in rows)
            raise UserError(f"{what} fits several pictures: {named}")
        if rows:
            return Found(workspace, "workspace", *rows[0])
    for needle in wanted:
        for run, version in versions(root, objects, runs):
            if rows := _pictures(version, needle):
                return Found(version, f"run {run.run_id} ({run.name})", *rows[0])
    kind = f"the file {what}" if on_disk else repr(what)
    raise UserError(f"{kind} is in no manifest of the workspace, nor of any run's data: it cannot be traced")


def needles(root: Path, what: str) -> tuple[list[str], bool]:
    """What to look for: a repository path, a sha256, or (for a file from elsewhere) the sha256 of its bytes."""
    if SHA.match(what) and not Path(what).exists():
        return [what], False
    path = Path(what)
    name = path.as_posix()
    with contextlib.suppress(ValueError):
        name = Path(os.path.abspath(path)).relative_to(root).as_posix()
    for candidate in (path, root / name):
        if candidate.is_file():
            return [name, sha256_bytes(candidate.read_bytes())], True
    return [name], False


def versions(root: Path, objects: Objects, runs: list[RunRecord]) -> Iterator[tuple[RunRecord, Version]]:
    """Each distinct state of the data that a traceable run saw, the newest first."""
    seen: set[tuple[str, ...]] = set()
    for run in reversed(runs):
        data = tuple(sorted(f"{i.path} {i.digest}" for i in run.inputs))
        if data in seen or not run.selected:
            continue
        seen.add(data)
        with contextlib.suppress(UserError):  # of a run without lineage nothing can be said
            yield run, Version(root, objects, stage_graph(root, run))
