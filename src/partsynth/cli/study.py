"""Commands on studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from partsynth.cli.app import PARAMS, RESULTS, ParamsFile, app

studies = typer.Typer(
    invoke_without_command=True,
    no_args_is_help=True,
    help="Tune one setup with Optuna on validation data; params.yaml, section study, says what and how. "
    "`partsynth study --trials 40` is short for `partsynth study run --trials 40`.",
)


app.add_typer(studies, name="study", rich_help_panel=RESULTS)


Trials = Annotated[int | None, typer.Option(min=1, help="Complete trials to have in the end (else study.trials).")]
Workers = Annotated[int, typer.Option(min=1, help="Processes here; any number of machines may join in.")]


def study_params(path: Path, trials: int | None = None) -> Any:
    from partsynth.config import load as config_load

    loaded = config_load.load_all(path)
    if trials is None:
        return loaded
    return loaded.model_copy(update={"study": loaded.study.model_copy(update={"trials": trials})})


@studies.callback()
def study_short(
    context: typer.Context, trials: Trials = None, workers: Workers = 1, params: ParamsFile = PARAMS
) -> None:
    if context.invoked_subcommand is None:
        study_run(trials, workers, params)


@studies.command("run")
def study_run(trials: Trials = None, workers: Workers = 1, params: ParamsFile = PARAMS) -> None:
    """Run a study, go on with it, or join it; Ctrl-C loses nothing."""
    from partsynth.study.workers import run_study

    run_study(study_params(params, trials), Path.cwd(), workers)


@studies.command("show")
def study_show(params: ParamsFile = PARAMS) -> None:
    """Print trials, importance, Pareto front and history, and write reports/studies/NAME.json for the report."""
    from partsynth.study.present import show

    show(study_params(params), Path.cwd())


@studies.command("apply")
def study_apply(
    out: Annotated[Path, typer.Option(help="New parameter file; params.yaml itself is never written.")],
    trial: Annotated[int | None, typer.Option(min=0, help="Trial to take (else the best).")] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Write params.yaml with the best trial's parameters to a new file, to compare and to copy."""
    from partsynth.study.apply import apply

    typer.echo(f"wrote {apply(study_params(params), Path.cwd(), out, trial)}")
