"""Tables of an evaluation from its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from partsynth.cli.app import PARAMS, RESULTS, ParamsFile, app


@app.command(rich_help_panel=RESULTS)
def recompute(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Table of predictions: reports/metrics/predictions.csv, or a benchmark's .csv.gz."
        ),
    ],
    params: ParamsFile = PARAMS,
) -> None:
    """Compute all figures again from stored predictions alone and print the table; no model, image or GPU is needed.

    It is the evidence that reported figures follow from the predictions: it prints what `partsynth evaluate`, or
    `partsynth benchmark`, found. Where the folder has a params.yaml, its section evaluate says the headline OOD score,
    the recall of FPR@95 and the intervals' level; else their defaults hold. Nothing is written.
    """
    from partsynth.config import load
    from partsynth.evaluation.predictions import recompute as computed
    from partsynth.reporting.text import render_table

    section = load.load("evaluate", params) if params.exists() else None
    typer.echo(render_table(computed(predictions, section)))


def instead_of_evaluate(predictions: Path | None) -> None:
    """Option of evaluate that ends the command: what `recompute` was before it was a command of its own."""
    if predictions is not None:
        typer.echo(f"evaluate --from-predictions is now a command: partsynth recompute {predictions}", err=True)
        recompute(predictions, PARAMS)
        raise typer.Exit()
