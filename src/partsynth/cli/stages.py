"""One command per stage of dvc.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from partsynth.cli.app import PARAMS, PIPELINE, Commands, ParamsFile, app
from partsynth.cli.evaluate import instead_of_evaluate


def stage(name: str, path: Path, *sections: str, **recorded: Path) -> list[Any]:
    """What a stage does before its heavy imports: share it with other processes where params.yaml says so, read its
    parameters, refuse to mix two versions' products. ``recorded``: options whose paths manifests and runs keep, which
    must lie in the project."""
    from partsynth.config import load as config_load
    from partsynth.errors import UserError
    from partsynth.project.code import require_current
    from partsynth.project.launch import SHARED, share

    if name in SHARED and (status := share(path, Commands.arguments)) is not None:
        raise typer.Exit(status)
    loaded, faults = [], _elsewhere(recorded)
    for section in sections:
        try:
            loaded.append(config_load.load(section, path))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(dict.fromkeys(faults)))
    require_current(Path.cwd(), name)
    return loaded


def _elsewhere(recorded: dict[str, Path]) -> list[str]:
    from partsynth.errors import UserError
    from partsynth.store.layout import Layout

    faults = []
    for option, given in recorded.items():
        try:
            Layout(Path.cwd()).relative(given)
        except UserError as error:
            faults.append(f"--{option}: {error}")
    return faults


@app.command(rich_help_panel=PIPELINE)
def render(
    out: Annotated[Path, typer.Option(help="Folder for the images, in MVIP's layout.")], params: ParamsFile = PARAMS
) -> None:
    """Render the embedded data set: used industrial parts with masks and metadata."""
    (section,) = stage("render", params, "render")
    from partsynth.stages import render as step

    step.run(step.Inputs(params=section, out=out))


@app.command(rich_help_panel=PIPELINE)
def ingest(
    raw: Annotated[Path, typer.Option(help="Folder of photographs as they came (params: ingest.source says how).")],
    real: Annotated[Path, typer.Option(help="Folder for framed images, masks and manifest.csv.")],
    ood: Annotated[Path, typer.Option(help="Folder for out-of-distribution images and their manifest.csv.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Frame photographs alike, draw splits by group, find unreadable and duplicate images."""
    section, ood_section = stage("ingest", params, "ingest", "ood", real=real, ood=ood)
    from partsynth.stages import ingest as step

    step.run(step.Inputs(params=section, ood_params=ood_section, raw=raw, real=real, ood=ood, root=Path.cwd()))


@app.command(rich_help_panel=PIPELINE)
def adapt(
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    out: Annotated[Path, typer.Option(help="Folder for adaptation.safetensors, a sheet and manifest.json.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Tune the base model on training images, where diffusion.adapt asks for it; measured on validation images."""
    (diffusion,) = stage("adapt", params, "diffusion", out=out)
    from partsynth.stages import adapt as step

    step.run(step.Inputs(diffusion=diffusion, real=real, out=out, root=Path.cwd()))


@app.command(rich_help_panel=PIPELINE)
def tokens(
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    out: Annotated[Path, typer.Option(help="Folder for <class>.safetensors and manifest.json.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Learn one Stable Diffusion token per class from its training images (textual inversion)."""
    section, diffusion = stage("tokens", params, "tokens", "diffusion", out=out)
    from partsynth.stages import tokens as step

    step.run(step.Inputs(params=section, diffusion=diffusion, real=real, out=out, root=Path.cwd()))


@app.command(rich_help_panel=PIPELINE)
def calibrate(
    set_name: Annotated[str, typer.Option("--set", help="Name of the set: an entry of sets in params.yaml.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    tokens: Annotated[Path, typer.Option(help="Folder written by tokens.")],
    out: Annotated[Path, typer.Option(help="The strength of each class, and how it was found (JSON).")],
    params: ParamsFile = PARAMS,
) -> None:
    """Find how strongly a set edits each class (strength: auto), by bisection on a few images."""
    names = ("calibrate", "generate", "diffusion", "quality", "reference", f"sets.{set_name}")
    section, generate, diffusion, quality, reference, augmentation = stage("calibrate", params, *names)
    from partsynth.stages import calibrate as step

    step.run(
        step.Inputs(
            params=section,
            generate=generate,
            diffusion=diffusion,
            quality=quality,
            reference=reference,
            augmentation=augmentation,
            set_name=set_name,
            real=real,
            tokens=tokens,
            out=out,
            root=Path.cwd(),
        )
    )


@app.command(rich_help_panel=PIPELINE)
def generate(
    set_name: Annotated[str, typer.Option("--set", help="Name of the set: an entry of sets in params.yaml.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    tokens: Annotated[Path, typer.Option(help="Folder written by tokens.")],
    strengths: Annotated[Path, typer.Option(help="The strength of each class, written by calibrate.")],
    out: Annotated[Path, typer.Option(help="Folder for the set's images and manifest.csv.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Make one augmentation set of real training images, by the set's method (SDEdit by default)."""
    section, diffusion, augmentation = stage("generate", params, "generate", "diffusion", f"sets.{set_name}", out=out)
    from partsynth.stages import generate as step

    step.run(
        step.Inputs(
            params=section,
            diffusion=diffusion,
            augmentation=augmentation,
            set_name=set_name,
            real=real,
            tokens=tokens,
            strengths=strengths,
            out=out,
            root=Path.cwd(),
        )
    )


@app.command(rich_help_panel=PIPELINE)
def quality(
    set_name: Annotated[str, typer.Option("--set", help="Name of the set.")],
    pictures: Annotated[Path, typer.Option(help="The set's folder, written by generate.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    out: Annotated[Path, typer.Option(help="The table of verdicts (CSV), one row per image.")],
    page: Annotated[Path, typer.Option(help="Folder for Data Docs, contact sheets and the list of flagged images.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Measure how far each generated image drifted from the real parts, and judge it (Great Expectations)."""
    section, reference = stage("quality", params, "quality", "reference")
    from partsynth.stages import quality as step

    step.run(
        step.Inputs(
            params=section,
            reference=reference,
            set_name=set_name,
            images=pictures,
            real=real,
            out=out,
            page=page,
            root=Path.cwd(),
        )
    )


@app.command(rich_help_panel=PIPELINE)
def select(
    setup: Annotated[str, typer.Option(help="Name of the setup: an entry of select in params.yaml.")],
    onto: Annotated[Path, typer.Option(help="Table of the setup this one adds to; a folder stands for none.")],
    manifest: Annotated[Path, typer.Option(help="Manifest of the set it adds.")],
    verdicts: Annotated[Path, typer.Option(help="That set's table of verdicts; a folder stands for none.")],
    real: Annotated[
        Path, typer.Option(help="Folder written by ingest: only what goes back to its train part is taken.")
    ],
    out: Annotated[Path, typer.Option(help="The setup's training table (CSV).")],
    review: Annotated[
        Path | None, typer.Option(help="What people decided about that set (`review apply`); a folder stands for none.")
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Write the training table of one setup: the setup before it and one set in one role."""
    (section,) = stage("select", params, f"select.{setup}")
    from partsynth.stages import select as step
    from partsynth.store.layout import MANIFEST

    step.run(
        step.Inputs(
            params=section,
            setup=setup,
            onto=onto,
            manifest=manifest,
            verdicts=verdicts,
            real=real / MANIFEST,
            review=review,
            out=out,
        )
    )


@app.command(rich_help_panel=PIPELINE)
def train(
    setup: Annotated[str, typer.Option(help="Name of the setup.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of initialisation, batches and views.")],
    selected: Annotated[Path, typer.Option(help="The setup's training table, written by select.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest: its val part is watched.")],
    out: Annotated[Path, typer.Option(help="Folder for encoder, linear probe and history.")],
    record: Annotated[
        Path | None, typer.Option(help="The MLflow run's record (JSON); by default in the folder.")
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Train one encoder by supervised contrastive learning, then a linear probe on it (one MLflow run)."""
    shared, chosen = stage("train", params, "train", f"select.{setup}", real=real, selected=selected)
    from partsynth.stages import train as step

    step.run(
        step.Inputs(
            params=chosen.training(shared),
            setup=setup,
            seed=seed,
            selected=selected,
            real=real,
            out=out,
            record=record,
            root=Path.cwd(),
        )
    )


@app.command(rich_help_panel=PIPELINE)
def evaluate(
    models: Annotated[Path, typer.Option(help="Folder of all trained models: <setup>/<seed>/.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    ood: Annotated[Path, typer.Option(help="Out-of-distribution images, written by ingest.")],
    augmented: Annotated[Path, typer.Option(help="Folder of all augmentation sets.")],
    selected: Annotated[Path, typer.Option(help="Folder of the training tables.")],
    quality: Annotated[Path, typer.Option(help="Folder of the tables of verdicts.")],
    out: Annotated[Path, typer.Option(help="Folder for summary.json and predictions.csv.")],
    plots: Annotated[Path, typer.Option(help="Folder for the data of the plots.")],
    from_predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            is_eager=True,
            callback=instead_of_evaluate,
            help="The command `partsynth recompute` under its old name.",
        ),
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Measure all models on test, shifted and out-of-distribution images; means and intervals over seeds and parts."""
    section, matrix = stage("evaluate", params, "evaluate", "matrix")
    from partsynth.stages import evaluate as step

    step.run(
        step.Inputs(
            params=section,
            matrix=matrix,
            models=models,
            real=real,
            ood=ood,
            augmented=augmented,
            selected=selected,
            quality=quality,
            out=out,
            plots=plots,
            root=Path.cwd(),
        )
    )


@app.command(rich_help_panel=PIPELINE)
def report(
    metrics: Annotated[Path, typer.Option(help="Folder of summary.json.")],
    plots: Annotated[Path, typer.Option(help="Folder of the data of the plots.")],
    quality: Annotated[Path, typer.Option(help="Folder of the quality pages.")],
    augmented: Annotated[Path, typer.Option(help="Folder of all augmentation sets.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    ood: Annotated[Path, typer.Option(help="Out-of-distribution pictures, written by ingest.")],
    verdicts: Annotated[Path, typer.Option(help="Folder of the tables of verdicts.")],
    studies: Annotated[Path, typer.Option(help="Folder of what `study show` wrote.")],
    out: Annotated[Path, typer.Option(help="The page (HTML, everything inside it).")],
    review: Annotated[Path | None, typer.Option(help="Folder of what people decided (`review apply`).")] = None,
    adapted: Annotated[Path | None, typer.Option(help="Folder written by adapt.")] = None,
    card: Annotated[Path | None, typer.Option(help="What people know of the photographs (data/card.yaml).")] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Write the page for people: verdict, tables, figures, contact sheets, in one HTML file."""
    (section,) = stage("report", params, "report")
    from partsynth.reporting.inputs import Inputs
    from partsynth.stages import report as stages_report

    stages_report.run(
        Inputs(
            params=section,
            root=Path.cwd(),
            metrics=metrics,
            plots=plots,
            quality=quality,
            augmented=augmented,
            real=real,
            ood=ood,
            verdicts=verdicts,
            studies=studies,
            review=review,
            adapted=adapted,
            card=card,
            out=out,
        )
    )


@app.command(rich_help_panel=PIPELINE)
def base(
    out: Annotated[Path, typer.Option(help="Folder for the model, in diffusers' format.")], params: ParamsFile = PARAMS
) -> None:
    """Train the embedded Stable Diffusion and reference encoder (hours; frozen in dvc.yaml, its result is shipped)."""
    (section,) = stage("base", params, "base")
    from partsynth.stages import base as step

    step.run(step.Inputs(params=section, out=out))
