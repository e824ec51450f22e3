"""Commands on a project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from partsynth.cli.app import PARAMS, PROJECT, RESULTS, FarFolder, GroupPattern, HeldOut, ParamsFile, ShiftedFolder, app

if TYPE_CHECKING:
    from partsynth.records.card import DataCard


@app.command(rich_help_panel=PROJECT)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the new project; must be new or empty.")],
    preset: Annotated[
        str,
        typer.Option(
            help="Parameters to begin with: photographs (one folder per class, a pretrained encoder), folder (the "
            "same, a small network from scratch), mvip (MVIP's photographs), sd15-gpu (photographs, Stable Diffusion "
            "1.5 on a GPU) or demo (rendered parts)."
        ),
    ] = "photographs",
    data: Annotated[
        Path | None, typer.Option(help="Folder of photographs; it stays where it is. Left out with rendered parts.")
    ] = None,
    shifted: ShiftedFolder = None,
    far: FarFolder = None,
    held_out: HeldOut = None,
    group_pattern: GroupPattern = None,
    origin: Annotated[
        str | None, typer.Option(help="Data card: who took the photographs, where, when, with what.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Data card: their licence (SPDX identifier, or in words).")
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="Data card: what the classifier is for, who relies on it.")
    ] = None,
    gaps: Annotated[str | None, typer.Option(help="Data card: what the photographs do not show.")] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="A models/base folder to copy, where partsynth was installed without its repository."),
    ] = None,
) -> None:
    """Make a git + DVC project of your own, in which `dvc repro` does everything.

    The folder gets params.yaml, dvc.yaml, a README and, where the preset uses it, the embedded base model. At a
    terminal it asks for what the data card (data/card.yaml) lacks; Enter leaves an answer for later.
    """
    from partsynth.project import init as project_init

    given = {"origin": origin, "licence": licence, "purpose": purpose, "gaps": gaps}
    told = project_init.init(
        folder,
        preset,
        data,
        base,
        shifted=shifted,
        far=far,
        held_out=held_out or [],
        group_pattern=group_pattern,
        card=lambda: _card(given, asks=data is not None),
    )
    typer.echo(told)


def _card(given: dict[str, str | None], asks: bool) -> DataCard:
    """What the options say, and, where a person sits at the terminal, what they answer."""
    from partsynth.records.card import QUESTIONS, DataCard

    answers = {name: value or "" for name, value in given.items()}
    if asks and sys.stdin.isatty() and sys.stdout.isatty():
        for name, question in QUESTIONS.items():
            if given[name] is None:
                answers[name] = typer.prompt(f"{question} (Enter: later)", default="", show_default=False)
    return DataCard(**answers)


@app.command(rich_help_panel=PROJECT)
def check(params: ParamsFile = PARAMS) -> None:
    """Check params.yaml, dvc.yaml, the recorded code and all folders they name; tell all faults at once.

    Nothing is changed. A fault names its key, what was found and what is allowed; the exit code is then 1.
    """
    from partsynth.project import check as project_check

    for line in project_check.check(Path.cwd(), params):
        typer.echo(line)


@app.command(rich_help_panel=PROJECT)
def upgrade() -> None:
    """Record the code that is installed now: `dvc repro` then runs the stages whose code changed.

    In a project made by init it is recorded in partsynth.json; in partsynth's repository, in dvc.yaml.
    """
    from partsynth.project import upgrade as project_upgrade

    typer.echo(project_upgrade.upgrade(Path.cwd()))


@app.command(rich_help_panel=PROJECT)
def repro(
    workers: Annotated[
        int | None, typer.Option(min=1, help="Stages at a time: one per GPU, or as their threads go into the cores.")
    ] = None,
) -> None:
    """Run what `dvc repro` runs, stages side by side.

    Trainings and augmentation sets need nothing of each other. Products and dvc.lock are those of `dvc repro`, which
    runs one stage after another. On GPUs each stage has one of its own; on CPUs a stage takes as many cores as
    params.yaml gives it threads (train, diffusion, reference), else all. Stopped with Ctrl-C and started again, it goes
    on where it was.
    """
    from partsynth.project import repro as project_repro

    project_repro.run(Path.cwd(), workers)


@app.command("params", rich_help_panel=PROJECT)
def explain_params(
    section: Annotated[str | None, typer.Argument(help="One section, e.g. train; left out, all sections.")] = None,
) -> None:
    """Explain every key of params.yaml: default, type, allowed values and meaning.

    Where names of scores, methods, sources, backbones or rules are allowed, those of plugins are listed too.
    """
    from partsynth.config import help

    help.show(section)


@app.command(rich_help_panel=RESULTS)
def summary(
    metrics: Annotated[Path, typer.Option(help="The summary that evaluate wrote.")] = Path(
        "reports/metrics/summary.json"
    ),
) -> None:
    """Print how the setups compare, where the report lies and how to open MLflow."""
    from partsynth.reporting.terminal import show_summary

    show_summary(metrics)


@app.command(rich_help_panel=RESULTS)
def register(
    name: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run id or name; left out, the best by validation.")
    ] = None,
    alias: Annotated[str, typer.Option(help="Alias that the model takes over.")] = "champion",
) -> None:
    """Register the chosen model in MLflow with a model card and the digests of its data.

    With the extra serve the version is a model that `mlflow models serve -m models:/NAME@champion` answers with.
    """
    from partsynth.serving.register import register as register_model

    for line in register_model(Path.cwd(), name, alias):
        typer.echo(line)
