"""An image found by path or sha256, in the workspace or in what earlier runs saw."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from partsynth.audit.rows import SHA256, image_rows
from partsynth.audit.runs import RunRecord
from partsynth.audit.versions import Version, distinct_versions
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects
from partsynth.records.rows import ImageRecord
from partsynth.store.hashing import sha256_bytes


@dataclass(frozen=True)
class Found:
    """An image and the state of the data that it was found in."""

    version: Version
    label: str  # "workspace" or the run whose version it is
    manifest: str
    row: ImageRecord


def find_image(root: Path, objects: Objects, runs: Sequence[RunRecord], what: str) -> Found:
    """An image by path or sha256, in the workspace, else in what earlier runs were trained on.

    Raises
    ------
    UserError
        where no manifest knows it, or several images have the beginning of a hash.
    """
    wanted, on_disk = needles(root, what)
    workspace = Version(root)
    for needle in wanted:
        rows = _fitting(workspace, needle)
        if len({row.sha256 for _, row in rows}) > 1:
            raise UserError(f"{what} fits several images: {', '.join(row.path for _, row in rows)}")
        if rows:
            return Found(workspace, "workspace", *rows[0])
    for needle in wanted:
        for run, version in distinct_versions(root, objects, runs):
            if rows := _fitting(version, needle):
                return Found(version, f"run {run.run_id} ({run.name})", *rows[0])
    kind = f"the file {what}" if on_disk else repr(what)
    raise UserError(f"{kind} is in no manifest of the workspace, nor of any run's data: it cannot be traced")


def needles(root: Path, what: str) -> tuple[list[str], bool]:
    """What to look for, and whether it is a file: a path below the root, a sha256, of a file from elsewhere its own."""
    if SHA256.match(what) and not Path(what).exists():
        return [what], False
    path = Path(what)
    name = path.as_posix()
    with contextlib.suppress(ValueError):
        name = Path(os.path.abspath(path)).relative_to(root).as_posix()
    for candidate in (path, root / name):
        if candidate.is_file():
            return [name, sha256_bytes(candidate.read_bytes())], True
    return [name], False


def _fitting(version: Version, what: str) -> list[tuple[str, ImageRecord]]:
    """(manifest, row) of every image whose path or sha256 (or its beginning) is ``what``."""
    by_hash = bool(SHA256.match(what))
    return [
        (manifest, row)
        for manifest, row in image_rows(version, what)
        if row.path == what or (by_hash and row.sha256.startswith(what))
    ]
