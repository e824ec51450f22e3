"""What tests of audits share: names in the small project, and hands that damage it."""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from helpers import small_project
from partsynth.audit.result import Result
from partsynth.tracking.query import find_runs
from partsynth.tracking.views import RunView

IMAGE = "data/augmented/id/gear_a/00-1.png"
PARENT = "data/real/train/gear_a/00.png"
SETUPS = ["real", "real_id", "real_id_negatives"]
OLD_PROJECT = Path(__file__).parents[1] / "audit/old_project.tar.gz"


def faults(result: Result) -> dict[str, str]:
    return {fault.path: fault.message for fault in result.faults}


def rewrite(path: Path, change: Callable[[list[dict[str, str]]], object]) -> None:
    """Edit a manifest's rows as a text editor would; a file that is read-only in the cache stays so."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)
    change(rows)
    path.unlink()
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def flip(path: Path) -> None:
    """One byte, size and time of change kept: what DVC's own status does not see."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def changed(base: Path) -> Path:
    """The finished project after one more `dvc repro` with a changed parameter; nothing was committed in between.

    One a test session, as ``small_project.finished``: tests that change anything take a copy.
    """
    project = small_project.finished(base)
    folder = project.parent / "changed"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder / "project", ignore_errors=True)
            root = small_project.copy(project, folder / "project")
            small_project.set_params(root, "sets.id", strength=0.3)
            small_project.dvc(root, "repro")
            (folder / "done").touch()
    return folder / "project"


def runs_named(root: Path, name: str) -> list[RunView]:
    """Oldest first."""
    return [run for run in find_runs(root) if run.name == name]


def old_project(folder: Path) -> Path:
    """A small project that commit f5688eb made, with its git, DVC cache and MLflow store.

    Two `dvc repro`, the second with another strength. Its stages name code of the layout of that time, and its sets
    have no column ``method``. Made by that commit's tests/small_project.py, the contact sheets left out.
    """
    with tarfile.open(OLD_PROJECT) as archive:
        archive.extractall(folder, filter="data")
    root = folder / "old_project"
    (root / ".dvc/config.local").write_text(f"[core]\n    site_cache_dir = {folder / 'site-cache'}\n")
    return root
