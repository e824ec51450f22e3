"""The history of a training as a table and as curves."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict

from partsynth.training.result import Measurement

CURVES = {
    "loss": "SupCon loss",
    "val_accuracy_knn": "validation accuracy (1-NN)",
    "feature_variance": "feature variance",
}


def history_csv(history: Sequence[Measurement]) -> str:
    """One row per measurement; figures as Python writes them, so that none loses a bit. A use of negatives that adds no
    term has no column."""
    header = [name for name in Measurement.__dataclass_fields__ if name != "use_loss"]
    header += ["use_loss"] if any(not math.isnan(row.use_loss) for row in history) else []
    lines = [",".join(header)] + [",".join(repr(asdict(row)[name]) for name in header) for row in history]
    return "\n".join(lines) + "\n"


def curves_png(history: Sequence[Measurement], title: str) -> bytes:
    """PNG of loss, accuracy and feature variance over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, label) in zip(figure.subplots(1, 3), CURVES.items(), strict=True):
        axes.plot([m.step for m in history], [getattr(m, name) for m in history], marker=".")
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        if name != "loss":
            axes.set_ylim(0, 1.02)
    figure.suptitle(title, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
