"""Rows of training tables from the rows of manifests, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from partsynth.errors import UserError
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, SelectedRecord, VerdictRecord


def from_real(row: RealRecord, role: str) -> SelectedRecord:
    return SelectedRecord(
        path=row.path,
        sha256=row.sha256,
        class_name=row.class_name,
        role=role,
        origin="real",
        source=row.path,
        group=row.group,
        state=row.state,
    )


def from_augmented(row: AugmentedRecord, role: str) -> SelectedRecord:
    return SelectedRecord(
        path=row.path,
        sha256=row.sha256,
        class_name=row.class_name,
        role=role,
        origin=row.set_name,
        source=row.source,
        group=row.source_group,
        state=row.state,
    )


def read_verdicts(pictures: Sequence[SelectedRecord], path: Path) -> dict[str, VerdictRecord]:
    judged = {v.path: v for v in read_manifest(path, VerdictRecord)}
    stale = [p.path for p in pictures if p.path not in judged or judged[p.path].sha256 != p.sha256]
    if stale:
        raise UserError(f"{path} has no verdict for {len(stale)} pictures, such as {stale[0]}: run quality (dvc repro)")
    return judged
