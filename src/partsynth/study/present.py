"""A study's results on the terminal, and as a file for the report."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.table import Table

from partsynth.config.params import Params
from partsynth.records.study import StudyResults, TrialResult
from partsynth.store.files import write_json
from partsynth.store.layout import STUDIES
from partsynth.store.seal import sealed
from partsynth.study.results import results

AGAIN = ("again: accuracy", "again: AUROC")  # of trials that were trained again on new seeds


def show(params: Params, root: Path) -> Path:
    """Print table, importance, Pareto front and history, and write them to ``reports/studies/<name>.json``."""
    found = results(params, root)
    out = Path(STUDIES, f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', params.study.name)}.json")
    write_json(root / out, sealed(found.plain(), {}))
    print_results(found)
    print(f"wrote {out}; `dvc repro report` puts it into reports/index.html")
    return out


def print_results(found: StudyResults) -> None:
    """Trials as a table, the most accurate first, and below it what they add up to."""
    names = sorted({name for trial in found.trials for name in trial.params})
    order = sorted(found.trials, key=lambda t: (not t.complete, -(t.val_accuracy or 0), t.number))
    rows = [_row(found, trial, names) for trial in order]
    counts = ", ".join(f"{n} {state}" for state, n in found.counts.items())
    table = Table(title=f"study {found.study}: {found.setup}, {found.mode} ({counts})")
    told = ("trial", "state", "val accuracy", "near AUROC", "drift", "limits kept", *AGAIN, *names)
    heads = [name.replace("_", " ") for name in told]
    cells = zip(*rows, strict=True) if rows else [()] * len(heads)
    # headings break between words, never within; a terminal too narrow folds lines, but nothing is cut off
    widths = [max(map(len, [*head.split(), *column])) for head, column in zip(heads, cells, strict=True)]
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="right", width=width)
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(Console().width, sum(widths) + 3 * len(widths) + 1))
    console.print(table)
    best = "no trial keeps the limits" if found.best is None else f"best: trial {found.best} (*)"
    if found.chosen is not None:
        best += f"; trained again on new seeds: trial {found.chosen} (+), which `study apply` takes"
    console.print(best + (f"; Pareto front: {', '.join(map(str, found.pareto))} (p)" if found.pareto else ""))
    for name, share in sorted(found.importance.items(), key=lambda item: -item[1]):
        console.print(f"  {name:22s} {'#' * round(40 * share)} {share:.2f}")
    if steps := [h for i, h in enumerate(found.history) if i == 0 or h.best != found.history[i - 1].best]:
        console.print("best accuracy so far: " + ", ".join(f"{_number(h.best)} at trial {h.trial}" for h in steps))


def _row(found: StudyResults, trial: TrialResult, names: list[str]) -> list[str]:
    mark = "*" if trial.number == found.best else "p" if trial.number in found.pareto else ""
    mark += "+" if trial.number == found.chosen else ""
    again = trial.retrained
    kept = {True: "yes", False: "no", None: ""}[trial.feasible]
    figures = [_number(value) for value in (trial.val_accuracy, trial.near_ood_auroc, trial.drift)]
    second = ["", ""] if again is None else [_number(again.val_accuracy), _number(again.near_ood_auroc)]
    drawn = [_number(trial.params.get(name)) for name in names]
    return [f"{trial.number}{mark}", trial.state.lower(), *figures, kept, *second, *drawn]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
