"""Which images a training table holds, and as what."""

from __future__ import annotations

from collections.abc import Sequence

from partsynth.records.rows import SelectedRecord


def used(rows: Sequence[SelectedRecord]) -> list[list[str]]:
    """Of each row what a training depends on; other columns tell how it came into the table."""
    return [[r.path, r.sha256, r.class_name, r.role, r.origin, r.source] for r in rows]
