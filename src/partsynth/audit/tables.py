"""Training tables of runs, read by hash."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from typing import Any

from partsynth.audit.runs import RunRecord
from partsynth.audit.versions import read_object
from partsynth.audit.workspace import Fault
from partsynth.errors import UserError
from partsynth.lineage.objects import Objects
from partsynth.tracking.query import read_artifact


def trained_on(objects: Objects, runs: list[RunRecord], sha256: str, faults: list[Fault]) -> list[dict[str, Any]]:
    """Every run whose training table holds the picture."""
    return [
        run.brief() | {"role": row["role"]}
        for run in runs
        for row in training_table(objects, run, faults)
        if row["sha256"] == sha256
    ]


def table_bytes(objects: Objects, run: RunRecord) -> bytes:
    """A run's training table: DVC's, or of a study's trial with a band of its own the run's artifact."""
    path, md5 = run.selected
    if not path.startswith("lineage/"):
        return read_object(objects, md5)
    data = read_artifact(objects.root, run.run_id, path)
    if data is None or hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"artifact {path} of run {run.run_id} is missing or altered")
    return data


@functools.lru_cache(maxsize=16)
def _parsed(table: bytes) -> tuple[dict[str, str], ...]:
    """All rows as text: runs share tables, and a check of types is not what is asked here.

    Raises
    ------
    ValueError
        where it is no training table.
    """
    reader = csv.DictReader(io.StringIO(table.decode()))
    if lacking := {"path", "sha256", "class_name", "role", "origin"} - set(reader.fieldnames or ()):
        raise ValueError(f"it has no column {', '.join(sorted(lacking))}")
    return tuple(reader)


def training_table(objects: Objects, run: RunRecord, faults: list[Fault]) -> tuple[dict[str, str], ...]:
    """A run's training pictures; a table that cannot be read is a fault, not an empty one."""
    if run.selected is None:
        if run.status == "FINISHED":
            faults.append(Fault(run.run_id, f"run {run.name} names no training table: nobody can tell what it saw"))
        return ()
    try:
        return _parsed(table_bytes(objects, run))
    except (UserError, ValueError) as error:
        faults.append(Fault(run.run_id, f"the training table of run {run.name} cannot be read: {error}"))
        return ()
