"""Which images a model takes for parts that it knows."""

from __future__ import annotations

from typing import Any

from partsynth.reporting import figures
from partsynth.reporting.format import reasons, score_title
from partsynth.reporting.inputs import Contents
from partsynth.seams import SCORES


def values(contents: Contents) -> dict[str, Any]:
    summary, tables = contents.summary, {kind: contents.plot(f"roc_{kind}.csv", "fpr") for kind in ("near", "far")}
    kinds = [kind for kind, table in tables.items() if len(table)]
    measured = {name.split("/")[0] for found in summary.scores.values() for name in found}
    first = [name for name in (summary.headline_score, *SCORES) if name in measured]
    names = list(dict.fromkeys([*first, *sorted(measured)]))
    return {
        "summary": summary,
        "drawn": figures.curves({f"{kind} OOD": tables[kind] for kind in kinds}) if kinds else None,
        "kinds": kinds,
        "scores": {name: score_title(name) for name in names},
        "headline": score_title(summary.headline_score),
        "absent": reasons(summary.absent),
    }
