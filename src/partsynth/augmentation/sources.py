"""Which training images are edited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from partsynth.records.rows import RealRecord
from partsynth.store.hashing import seed_from


def drawn_sources(rows: Sequence[RealRecord], seed: int, limit: int | None) -> list[RealRecord]:
    """Up to ``limit`` training images per class; fewer are always among those of a higher limit."""
    classes: dict[str, list[RealRecord]] = defaultdict(list)
    for row in rows:
        if row.split == "train" and row.role == "target":
            classes[row.class_name].append(row)
    chosen = []
    for name in sorted(classes):
        drawn = sorted(classes[name], key=lambda row: (seed_from("source", seed, row.sha256), row.path))
        chosen += sorted(drawn[:limit], key=lambda row: row.path)
    return chosen
