"""The benchmark's picture: differences with their intervals, and the few-shot curve where there is one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from partsynth.evaluation.results import BenchmarkSummary, MetricTitle
from partsynth.reporting.benchmark import curve
from partsynth.reporting.figures import COLOURS, MARKERS, STYLE
from partsynth.reporting.format import metrics_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase

GREY, ZERO = "#9aa1aa", "#6b7280"
CURVES = 3.2  # inches


def picture(summary: BenchmarkSummary) -> bytes:
    """PNG, the same bytes for the same summary."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(STYLE):
        made = drawn(summary)
        FigureCanvasAgg(made)
        buffer = io.BytesIO()
        made.savefig(buffer, format="png", dpi=110, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
    return buffer.getvalue()


def drawn(summary: BenchmarkSummary) -> Figure:
    from matplotlib.figure import Figure

    metrics = metrics_in(summary, "benchmark_figure")
    height = 1.4 + 0.3 * len(summary.compared)
    extra = CURVES if summary.few_shot else 0
    made = Figure(figsize=(11, height + extra), layout="constrained", facecolor="white")
    if not summary.few_shot:
        draw_differences(made, summary, metrics)
        return made
    upper, lower = made.subfigures(2, 1, squeeze=False, height_ratios=[height, CURVES])[:, 0]
    draw_differences(upper, summary, metrics)
    draw_curves(lower, summary, metrics)
    return made


def draw_differences(figure: FigureBase, summary: BenchmarkSummary, metrics: list[MetricTitle]) -> None:
    """One panel per metric, one row per comparison: replicates (hollow), mean and interval, in points."""
    axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        axis.axvline(0, color=ZERO, linewidth=0.8)
        for row, (setup, base) in enumerate(summary.compared):
            found = summary.difference(setup, base, metric.name)
            if found is None:
                continue
            values = [100 * v for v in found.values]
            axis.plot(values, [row + 0.24] * len(values), "o", mfc="white", mec=GREY, ms=3.5)
            if found.low is not None and found.high is not None:
                axis.plot([100 * found.low, 100 * found.high], [row, row], color=COLOURS[0], linewidth=1.8)
            axis.plot([100 * found.mean], [row], "D", color=COLOURS[0], ms=5)
        axis.set_yticks(range(len(summary.compared)), [f"{a} \N{MINUS SIGN} {b}" for a, b in summary.compared])
        axis.set(title=metric.title, xlabel="points", ylim=(len(summary.compared) - 0.5, -0.5))


def draw_curves(figure: FigureBase, summary: BenchmarkSummary, metrics: list[MetricTitle]) -> None:
    """One panel per metric, one line per setup: the mean by training images per class."""
    points = curve(summary)
    setups = next(iter(summary.few_shot.values())).order
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axis, metric in zip(axes, metrics, strict=True):
        for i, setup in enumerate(setups):
            found = {shots: of.setups[setup][metric.name] for shots, of in points.items() if setup in of.setups}
            means = [100 * entry.mean for entry in found.values()]
            axis.plot(list(found), means, color=COLOURS[i % 8], marker=MARKERS[i % 8], label=setup)
        axis.set(xscale="log", xlabel="training images per class", title=f"{metric.title} (%)")
        axis.set_xticks(list(points), [f"{shots:g}" for shots in points])
        axis.minorticks_off()
    axes[-1].legend()
