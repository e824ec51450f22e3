"""`partsynth summary`: how the setups compare, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from partsynth.evaluation.format import Estimate, bracketed, percent, points
from partsynth.evaluation.results import MetricTitle, read_summary
from partsynth.reporting.format import metrics_in, reasons
from partsynth.store.layout import REPORT

WIDEST = 104  # characters that the table of setups needs; a narrower terminal breaks its lines itself


def show_summary(path: Path) -> None:
    """The table of setups (per cent: mean, and the interval over seeds), then where to look further.

    Raises
    ------
    UserError
        where the summary is missing or of another version.
    """
    summary = read_summary(path)
    console = Console(width=max(Console().width, WIDEST))
    shown = metrics_in(summary, "terminal")
    differences = {
        f"{setup}\nminus {base}": {m.name: summary.difference(setup, base, m.name) for m in shown}
        for setup, base in summary.pairs()
    }
    for head, rows, signed in (("setup", summary.setups, False), ("difference", differences, True)):
        if rows and shown:
            console.print(table(head, rows, shown, signed), highlight=False)
            console.print()
    console.print("All in per cent (differences in points), with the interval over seeds and parts in brackets.")
    for sentence in summary.verdict:
        console.print(sentence.text, highlight=False)
    for reason, titles in reasons(summary.absent).items():
        console.print(f"Not measured, because {reason}: {'; '.join(titles)}.", highlight=False, markup=False)
    console.print()
    console.print(f"Report:  {REPORT}")
    console.print("Model:   partsynth register  -> the best by validation images, @champion in MLflow's registry")
    console.print("Runs:    make ui, or: mlflow ui --backend-store-uri sqlite:///mlflow.db  -> http://127.0.0.1:5000")


def table(
    head: str, rows: Mapping[str, Mapping[str, Estimate | None]], metrics: Sequence[MetricTitle], signed: bool
) -> Table:
    """One column per metric, one line per name."""
    made = Table(title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    made.add_column(head, no_wrap=True)
    for metric in metrics:
        made.add_column(metric.title)
    for name, found in rows.items():
        made.add_row(name, *(_figure(found.get(metric.name), signed) for metric in metrics))
    return made


def _figure(found: Estimate | None, signed: bool) -> str:
    if found is None:
        return "–"
    shown = points if signed else percent
    return f"{shown(found.mean)}\n{bracketed(found, shown)}".rstrip()
