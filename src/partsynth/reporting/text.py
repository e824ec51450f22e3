"""Every figure and difference as plain text: what `partsynth recompute` prints."""

from __future__ import annotations

from partsynth.evaluation.format import estimate, percent, points
from partsynth.evaluation.results import BenchmarkSummary, Summary
from partsynth.reporting.format import reasons

WIDTH = 24  # of a column of figures


def render_table(summary: Summary) -> str:
    """In per cent and points, intervals in brackets; of a benchmark also the replicates of few shots."""
    titles = {metric.name: metric.title for metric in summary.metrics}
    first = max(map(len, titles.values()), default=0) + 4
    width = max(WIDTH, *(len(setup) + 2 for setup in summary.order))
    lines = [" " * first + "".join(f"{setup:>{width}}" for setup in summary.order)]
    for name, title in titles.items():
        cells = (estimate(summary.setups[setup].get(name), percent) for setup in summary.order)
        lines.append(f"{title:{first}}" + "".join(f"{cell:>{width}}" for cell in cells))
    for setup, base in summary.pairs():
        lines += ["", f"{setup} minus {base} (points)"]
        found = {name: summary.difference(setup, base, name) for name in titles}
        lines += [f"  {titles[n]:{first - 2}}{estimate(d, points):>{width}}" for n, d in found.items() if d is not None]
    lines += ["", *(sentence.text for sentence in summary.verdict)]
    if isinstance(summary, BenchmarkSummary):
        for shots, few in summary.few_shot.items():
            lines += ["", f"{shots} training images per class", render_table(few)]
    absent = reasons(summary.absent)
    lines += [f"Not measured, because {reason}: {'; '.join(names)}." for reason, names in absent.items()]
    return "\n".join(lines)
