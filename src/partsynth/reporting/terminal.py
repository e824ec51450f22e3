"""`partsynth summary`: how the setups compare, in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from partsynth.store.files import read_json

WIDEST = 104  # characters that the table of setups needs; a narrower terminal breaks its lines itself
COLUMNS = {
    "accuracy_test": "accuracy, test",
    "accuracy_shifted": "accuracy, shifted",
    "near_ood_auroc": "near-OOD AUROC",
    "near_ood_fpr95": "near-OOD FPR@95",
    "far_ood_auroc": "far-OOD AUROC",
}


def show_summary(path: Path) -> None:
    """The table of setups (per cent: mean, and the interval over seeds), then where to look further."""
    summary = read_json(path)
    console = Console(width=max(Console().width, WIDEST))
    for title, block in (("setup", summary.get("setups", {})), ("difference", summary.get("differences", {}))):
        shown = [c for c in COLUMNS if any(c in metrics for metrics in block.values())]
        if not shown:
            continue
        table = Table(title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column(title, no_wrap=True)
        for column in (COLUMNS[c] for c in shown):
            table.add_column(column)
        for name, metrics in block.items():
            table.add_row(
                name.replace("-", "\n- "), *(_figure(metrics.get(c), signed=title == "difference") for c in shown)
            )
        console.print(table, highlight=False)
        console.print()
    console.print("All in per cent (differences in points), with the interval over seeds in brackets.")
    for sentence in summary.get("verdict", []):
        console.print(sentence["text"], highlight=False)
    for metric, reason in summary.get("absent", {}).items():
        console.print(f"{metric}: absent, {reason}", highlight=False)
    console.print()
    console.print("Report:  reports/index.html")
    console.print("Model:   partsynth register  -> the best by validation pictures, @champion in MLflow's registry")
    console.print("Runs:    make ui, or: mlflow ui --backend-store-uri sqlite:///mlflow.db  -> http://127.0.0.1:5000")


def _figure(metric: dict[str, Any] | None, signed: bool) -> str:
    if not metric or metric.get("mean") is None:
        return "-"
    form = "{:+.1f}" if signed else "{:.1f}"
    mean = form.format(100 * metric["mean"])
    if metric.get("low") is None:
        return mean
    return f"{mean}\n({form.format(100 * metric['low'])} to {form.format(100 * metric['high'])})"
