"""Commands on exported models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from partsynth.cli.app import RESULTS, app


@app.command(rich_help_panel=RESULTS)
def export(
    out: Annotated[Path, typer.Option(help="New folder: model.onnx, pyfunc/, export.json.")],
    run: Annotated[str | None, typer.Option(help="Run id or name of another model of the workspace.")] = None,
    alias: Annotated[str, typer.Option(help="Alias of the registered model.")] = "champion",
    false_reject: Annotated[
        float, typer.Option(help="Share of known parts' images that may be called unknown.")
    ] = 0.05,
    coverage: Annotated[float, typer.Option(help="Share of images whose class shall be in the prediction set.")] = 0.95,
) -> None:
    """Write the registered model for a station: ONNX, MLflow pyfunc and thresholds, which need nothing else.

    Where no model is registered, it is the one that `register` would take. Thresholds come from validation images of
    known parts and are told with their intervals. Needs the extra serve.
    """
    from partsynth.serving.export import Inputs
    from partsynth.serving.export import export as write

    inputs = Inputs(root=Path.cwd(), out=out, run=run, alias=alias, false_reject=false_reject, coverage=coverage)
    for line in write(inputs).lines(out):
        typer.echo(line)


@app.command(rich_help_panel=RESULTS)
def predict(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Images, in folders or not.")],
    model: Annotated[Path, typer.Option(help="Folder that export wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables and the sheet.")] = Path("predictions"),
    group_pattern: Annotated[
        str | None,
        typer.Option(
            help="Regular expression over a file's path below FOLDER; its groups name the part that it shows."
        ),
    ] = None,
) -> None:
    """Predict a folder of images with an exported model: CSV, JSON lines and a contact sheet.

    With a pattern also per part, from all its images: the class by the mean of log-probabilities, unknown by the mean
    OOD score. Nothing but the export is needed. The exit code is 1 where a file could not be read.
    """
    from partsynth.serving.predict import Inputs
    from partsynth.serving.predict import predict as run

    found = run(Inputs(folder=folder, model=model, out=out, group_pattern=group_pattern))
    for line in found.lines(out):
        typer.echo(line)
    raise typer.Exit(1 if found.unreadable else 0)
