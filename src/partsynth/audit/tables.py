"""Training tables of runs, read by hash."""

from __future__ import annotations

import csv
import functools
import io
from typing import Any, NamedTuple

from partsynth.audit.result import Fault
from partsynth.audit.rows import part_with
from partsynth.audit.runs import RunRecord
from partsynth.audit.versions import read_object
from partsynth.errors import UserError
from partsynth.lineage.digests import md5_bytes
from partsynth.lineage.objects import Objects
from partsynth.tracking.query import read_artifact


class TrainedImage(NamedTuple):
    """A row of a training table, as text: runs share tables, and a check of types is not what is asked here."""

    path: str
    sha256: str
    class_name: str
    role: str
    origin: str


def trained_on(objects: Objects, runs: list[RunRecord], sha256: str, faults: list[Fault]) -> list[dict[str, Any]]:
    """Every run whose training table holds the image."""
    return [
        run.brief() | {"role": row.role}
        for run in runs
        for row in trained_images(objects, run, faults, sha256)
        if row.sha256 == sha256
    ]


def table_bytes(objects: Objects, run: RunRecord) -> bytes:
    """A run's training table: DVC's, or, of a study's trial with a band of its own, the run's artifact.

    Raises
    ------
    UserError
        where the run names none, or it is missing or altered.
    """
    if run.training_table is None:
        raise UserError(f"run {run.run_id} names no training table")
    path, md5 = run.training_table
    if not path.startswith("lineage/"):
        return read_object(objects, md5)
    data = read_artifact(objects.root, run.run_id, path)
    if data is None or md5_bytes(data) != md5:
        raise UserError(f"artifact {path} of run {run.run_id} is missing or altered")
    return data


@functools.lru_cache(maxsize=16)
def _parsed(table: str) -> tuple[TrainedImage, ...]:
    """Raises ValueError where it is no training table."""
    reader = csv.DictReader(io.StringIO(table))
    if lacking := set(TrainedImage._fields) - set(reader.fieldnames or ()):
        raise ValueError(f"it has no column {', '.join(sorted(lacking))}")
    return tuple(TrainedImage(*(row[name] for name in TrainedImage._fields)) for row in reader)


def trained_images(objects: Objects, run: RunRecord, faults: list[Fault], needle: str = "") -> tuple[TrainedImage, ...]:
    """A run's training images, or those whose rows hold ``needle``; a table that cannot be read is a fault, not an
    empty one."""
    if run.training_table is None:
        if run.status == "FINISHED":
            faults.append(Fault(run.run_id, f"run {run.name} names no training table: nobody can tell what it saw"))
        return ()
    try:
        table = table_bytes(objects, run)
        return _parsed((part_with(table, needle) or table.partition(b"\n")[0].decode()) if needle else table.decode())
    except (UserError, ValueError) as error:
        faults.append(Fault(run.run_id, f"the training table of run {run.name} cannot be read: {error}"))
        return ()
