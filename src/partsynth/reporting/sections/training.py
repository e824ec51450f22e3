"""What the models were trained on, and how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from partsynth.reporting import figures
from partsynth.reporting.format import curve_title
from partsynth.reporting.inputs import Contents

if TYPE_CHECKING:
    import pandas as pd

ABOUT = ("setup", "seed", "step", "epoch", "phase", "seconds")  # columns of a history that are not measured
ACROSS = 3  # curves side by side


def values(contents: Contents) -> dict[str, Any]:
    counts = contents.data.training
    order = [s for s in contents.summary.order if s in counts]
    history = contents.plot("history.csv") if (contents.inputs.plots / "history.csv").exists() else None
    return {
        "counts": {setup: counts[setup] for setup in order},
        "kinds": list(dict.fromkeys(kind for setup in order for kind in counts[setup])),
        "collapsed": [run for run in contents.summary.runs if run.config.get("collapse")],
        "curves": [] if history is None else curves(history),
    }


def curves(history: pd.DataFrame) -> list[tuple[str, bytes]]:
    """What each figure shows, and the figure."""
    columns = [c for c in history.columns if c not in ABOUT and drawable(history[c])] if "step" in history else []
    groups = [columns[i : i + ACROSS] for i in range(0, len(columns), ACROSS)]
    return [(", ".join(map(curve_title, some)), figures.histories(history, some)) for some in groups]


def drawable(column: pd.Series) -> bool:
    """Numbers, and more than one of them."""
    return column.dtype.kind in "if" and column.notna().sum() > 1 and column.nunique() > 1
