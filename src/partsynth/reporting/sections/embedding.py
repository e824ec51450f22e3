"""A map of features."""

from __future__ import annotations

from typing import Any

from partsynth.reporting import figures
from partsynth.reporting.format import PARTS
from partsynth.reporting.inputs import Contents


def values(contents: Contents) -> dict[str, Any] | None:
    table = contents.plot("embedding.csv")
    if not len(table):
        return None
    counts = table[table["setup"] == table["setup"].iloc[0]].groupby("part", sort=False).size()
    return {"drawn": figures.embedding(table), "counts": {PARTS[str(part)]: int(n) for part, n in counts.items()}}
