"""Every figure of every setup."""

from __future__ import annotations

from typing import Any

from partsynth.evaluation.format import percent
from partsynth.evaluation.metrics import Place
from partsynth.reporting import figures
from partsynth.reporting.format import metrics_in, score_title
from partsynth.reporting.inputs import Contents

TABLES: dict[Place, str] = {
    "main": "Classification and OOD detection",
    "more": "Further metrics",
    "generated": "On generated images",
}


def values(contents: Contents) -> dict[str, Any]:
    summary = contents.summary
    headline = metrics_in(summary, "headline")
    panels = {m.title: {s: summary.setups[s][m.name] for s in summary.order} for m in headline}
    tables = {caption: metrics_in(summary, table) for table, caption in TABLES.items()}
    return {
        "summary": summary,
        "headline": score_title(summary.headline_score),
        "drawn": figures.intervals(panels),
        "alt": "; ".join(
            f"{title}: {', '.join(f'{setup} {percent(found.mean)}' for setup, found in panel.items())}"
            for title, panel in panels.items()
        ),
        "tables": {caption: metrics for caption, metrics in tables.items() if metrics},
        "seeds": [f"seed {n}" for n in summary.seeds[summary.order[0]]],
    }
