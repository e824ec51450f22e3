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
    drift: Annotated[bool, typer.Option("--drift", help="Measure each image for `monitor`: one more column.")] = False,
) -> None:
    """Predict a folder of images with an exported model: CSV, JSON lines and a contact sheet.

    With a pattern also per part, from all its images: the class by the mean of log-probabilities, unknown by the mean
    OOD score. Nothing but the export is needed. The exit code is 1 where a file could not be read.
    """
    from partsynth.serving.predict import Inputs
    from partsynth.serving.predict import predict as run

    found = run(Inputs(folder=folder, model=model, out=out, group_pattern=group_pattern, drift=drift))
    for line in found.lines(out):
        typer.echo(line)
    raise typer.Exit(1 if found.unreadable else 0)


@app.command(rich_help_panel=RESULTS)
def monitor(
    what: Annotated[Path, typer.Argument(metavar="FOLDER|PREDICTIONS", help="Images, or a table that predict wrote.")],
    export: Annotated[Path, typer.Option(help="Folder that export wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for monitor.json and monitor.html.")] = Path("monitor"),
    window: Annotated[str, typer.Option(help="day, hour, or a number of images.")] = "day",
    timestamps: Annotated[
        str, typer.Option(help="mtime, name:REGEX (its groups tell the time), or column:NAME of the table.")
    ] = "mtime",
    images: Annotated[Path | None, typer.Option(help="Folder of a table's images, for mtime.")] = None,
    false_alarm: Annotated[float, typer.Option(help="Share of sound windows that each check may alarm.")] = 0.01,
    min_images: Annotated[int, typer.Option(min=10, help="Windows with fewer images are not judged.")] = 30,
    last: Annotated[int | None, typer.Option(min=1, help="How many last windows decide; all where left out.")] = None,
) -> None:
    """Watch a station over time windows: unknown rate against what the export states, drift, mix of classes.

    The exit code is 0 where all is as stated, 2 where a window drifted or its unknown rate is out of its limit, and 1
    where that could not be told. Nothing but the export is needed.
    """
    from partsynth.serving.monitor import Inputs
    from partsynth.serving.monitor import monitor as run

    inputs = Inputs(
        what=what,
        export=export,
        out=out,
        window=window,
        timestamps=timestamps,
        images=images,
        false_alarm=false_alarm,
        min_images=min_images,
        last=last,
    )
    found = run(inputs)
    for line in found.lines(out):
        typer.echo(line)
    raise typer.Exit(found.exit_code)
