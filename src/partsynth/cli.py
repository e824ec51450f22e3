"""The command line: one command a stage of dvc.yaml, and commands for people. Everything heavy is imported late."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

PIPELINE = "Stages of dvc.yaml, in the order the data flows (run them all with: dvc repro)"
PROJECT = "Your project"
RESULTS = "Results, studies, audits"


class Commands(TyperGroup):
    """Faults that a user can mend end in one sentence on stderr; all others keep their traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)  # in the order of this file

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo(
                "\npartsynth: stopped. What was finished is kept where the stage can go on from it: run it again.",
                err=True,
            )
            raise typer.Exit(130) from None
        except Exception as error:
            sentence = fault_for_people(error)
            if sentence is None:
                raise
            typer.echo(f"partsynth: {sentence}", err=True)
            raise typer.Exit(1) from None


def fault_for_people(error: BaseException) -> str | None:
    """The sentence that tells a user what to mend; None where the fault is ours and its traceback is wanted."""
    from partsynth.records import UserError

    if isinstance(error, UserError):
        return str(error)
    number = getattr(error, "errno", None)
    # libraries in C and Rust report a full disk by text alone
    if number in (errno.ENOSPC, errno.EDQUOT) or any(
        text in str(error) for text in ("No space left on device", "database or disk is full", "Disk quota exceeded")
    ):
        name = getattr(error, "filename", None)
        return (
            f"the disk is full{f' ({name})' if name else ''}. Free some space (dvc gc --workspace removes cached data "
            "that this workspace does not use) and run again: finished work is kept"
        )
    if isinstance(error, PermissionError):
        return f"no permission to read or write {error.filename}"
    return None


app = typer.Typer(
    name="partsynth",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    help=(
        "[bold]Train a classifier of used parts on few photographs, and learn whether generated pictures help.[/bold]"
        "\n\n"
        "Real photographs teach a Stable Diffusion one token a class; edits of them make augmentation sets at several "
        "distances from the real parts; each picture is measured; three setups (real, real_id, real_id_negatives) are "
        "trained by supervised contrastive learning and compared on accuracy and on out-of-distribution detection. "
        "DVC versions the data, MLflow keeps the runs."
        "\n\n"
        "[bold]partsynth init DIR --preset folder --data PHOTOS[/bold] makes a project of your own, "
        "[bold]dvc repro[/bold] in it does everything, [bold]partsynth params[/bold] explains every parameter."
    ),
)

ParamsFile = Annotated[Path, typer.Option("--params", help="The parameters; a stage reads its own sections alone.")]
PARAMS = Path("params.yaml")


def stage(name: str, path: Path, *sections: str) -> list[Any]:
    """What a stage does before its heavy imports: read its parameters, refuse to mix two versions' products."""
    from partsynth import params, project
    from partsynth.records import UserError

    loaded, faults = [], []
    for section in sections:
        try:
            loaded.append(params.load(section, path))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(dict.fromkeys(faults)))
    project.require_current(Path.cwd(), name)
    return loaded


# --- stages -------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=PIPELINE)
def render(
    out: Annotated[Path, typer.Option(help="Folder for the pictures, in MVIP's layout.")], params: ParamsFile = PARAMS
) -> None:
    """Render the embedded data set: used industrial parts with masks and metadata."""
    (section,) = stage("render", params, "render")
    from partsynth.steps import render as step

    step.run(section, out)


@app.command(rich_help_panel=PIPELINE)
def ingest(
    raw: Annotated[Path, typer.Option(help="Folder of photographs as they came (params: ingest.source says how).")],
    real: Annotated[Path, typer.Option(help="Folder for framed pictures, masks and manifest.csv.")],
    ood: Annotated[Path, typer.Option(help="Folder for out-of-distribution pictures and their manifest.csv.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Frame photographs alike, draw splits by group, find unreadable and duplicate pictures."""
    sections = stage("ingest", params, "ingest", "ood")
    from partsynth.steps import ingest as step

    step.run(*sections, raw, real, ood, Path.cwd())


@app.command(rich_help_panel=PIPELINE)
def tokens(
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    out: Annotated[Path, typer.Option(help="Folder for <class>.safetensors and manifest.json.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Learn one Stable Diffusion token a class from its training pictures (textual inversion)."""
    sections = stage("tokens", params, "tokens", "diffusion")
    from partsynth.steps import tokens as step

    step.run(*sections, real, out, Path.cwd())


@app.command(rich_help_panel=PIPELINE)
def calibrate(
    set_name: Annotated[str, typer.Option("--set", help="Name of the set: an entry of sets in params.yaml.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    tokens: Annotated[Path, typer.Option(help="Folder written by tokens.")],
    out: Annotated[Path, typer.Option(help="The strength of each class, and how it was found (JSON).")],
    params: ParamsFile = PARAMS,
) -> None:
    """Find how strongly a set edits each class (strength: auto), by bisection on a few pictures."""
    names = ("calibrate", "generate", "diffusion", "quality", "reference", f"sets.{set_name}")
    sections = stage("calibrate", params, *names)
    from partsynth.steps import calibrate as step

    step.run(*sections, set_name, real, tokens, out, Path.cwd())


@app.command(rich_help_panel=PIPELINE)
def generate(
    set_name: Annotated[str, typer.Option("--set", help="Name of the set: an entry of sets in params.yaml.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    tokens: Annotated[Path, typer.Option(help="Folder written by tokens.")],
    strengths: Annotated[Path, typer.Option(help="The strength of each class, written by calibrate.")],
    out: Annotated[Path, typer.Option(help="Folder for the set's pictures and manifest.csv.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Make one augmentation set: edits of real training pictures at the set's strength (SDEdit)."""
    sections = stage("generate", params, "generate", "diffusion", f"sets.{set_name}")
    from partsynth.steps import generate as step

    step.run(*sections, set_name, real, tokens, strengths, out, Path.cwd())


@app.command(rich_help_panel=PIPELINE)
def quality(
    set_name: Annotated[str, typer.Option("--set", help="Name of the set.")],
    pictures: Annotated[Path, typer.Option(help="The set's folder, written by generate.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    out: Annotated[Path, typer.Option(help="The table of verdicts (CSV), one row a picture.")],
    page: Annotated[Path, typer.Option(help="Folder for Data Docs, contact sheets and the flagged pictures' list.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Measure how far each generated picture drifted from the real parts, and judge it (Great Expectations)."""
    sections = stage("quality", params, "quality", "reference")
    from partsynth.steps import quality as step

    step.run(*sections, set_name, pictures, real, out, page, Path.cwd())


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
    params: ParamsFile = PARAMS,
) -> None:
    """Write the training table of one setup: the setup before it and one set in one role."""
    (section,) = stage("select", params, f"select.{setup}")
    from partsynth.steps import select as step

    step.run(section, setup, onto, manifest, verdicts, out, real / "manifest.csv")


@app.command(rich_help_panel=PIPELINE)
def train(
    setup: Annotated[str, typer.Option(help="Name of the setup.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of initialisation, batches and views.")],
    selected: Annotated[Path, typer.Option(help="The setup's training table, written by select.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest: its val part is watched.")],
    out: Annotated[Path, typer.Option(help="Folder for encoder, classifier, history and run.json.")],
    params: ParamsFile = PARAMS,
) -> None:
    """Train one encoder by supervised contrastive learning, then a linear classifier on it (one MLflow run)."""
    shared, chosen = stage("train", params, "train", f"select.{setup}")
    from partsynth.steps import train as step

    step.run(chosen.training(shared), setup, seed, selected, real, out, Path.cwd())


def recompute(predictions: Optional[Path]) -> None:
    """Option of evaluate that ends the command: the table, from the stored predictions alone."""
    if predictions is not None:
        from partsynth import params
        from partsynth.steps import evaluate as step

        section = params.load("evaluate", PARAMS) if PARAMS.exists() else None
        typer.echo(step.render_table(step.recompute(predictions, section)))
        raise typer.Exit()


@app.command(rich_help_panel=PIPELINE)
def evaluate(
    models: Annotated[Path, typer.Option(help="Folder of all trained models: <setup>/<seed>/.")],
    real: Annotated[Path, typer.Option(help="Folder written by ingest.")],
    ood: Annotated[Path, typer.Option(help="Out-of-distribution pictures, written by ingest.")],
    augmented: Annotated[Path, typer.Option(help="Folder of all augmentation sets.")],
    selected: Annotated[Path, typer.Option(help="Folder of the training tables.")],
    quality: Annotated[Path, typer.Option(help="Folder of the tables of verdicts.")],
    out: Annotated[Path, typer.Option(help="Folder for summary.json and predictions.csv.")],
    plots: Annotated[Path, typer.Option(help="Folder for the data of the plots.")],
    from_predictions: Annotated[
        Optional[Path],
        typer.Option(
            metavar="CSV", is_eager=True, callback=recompute, help="Only print the table, from stored predictions."
        ),
    ] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Measure all models on test, shifted and out-of-distribution pictures; means and intervals over seeds."""
    section, matrix = stage("evaluate", params, "evaluate", "matrix")
    from partsynth.steps import evaluate as step

    step.run(section, models, real, ood, augmented, selected, quality, out, plots, Path.cwd(), matrix)


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
    params: ParamsFile = PARAMS,
) -> None:
    """Write the page for people: table, contact sheets, curves, embedding map."""
    (section,) = stage("report", params, "report")
    from partsynth.steps import report as step

    step.run(section, metrics, plots, quality, augmented, real, out, Path.cwd(), ood, verdicts, studies)


@app.command(rich_help_panel=PIPELINE)
def base(
    out: Annotated[Path, typer.Option(help="Folder for the model, in diffusers' format.")], params: ParamsFile = PARAMS
) -> None:
    """Train the embedded Stable Diffusion and reference encoder (hours; frozen in dvc.yaml, its result is shipped)."""
    (section,) = stage("base", params, "base")
    from partsynth.steps import base as step

    step.run(section, out)


# --- project ------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=PROJECT)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the new project; must be new or empty.")],
    preset: Annotated[str, typer.Option(help="demo, folder, mvip or sd15-gpu (see presets/).")] = "folder",
    data: Annotated[
        Optional[Path], typer.Option(help="Folder of photographs; it stays where it is. Not for the preset demo.")
    ] = None,
    base: Annotated[
        Optional[Path],
        typer.Option(help="A models/base folder to copy, where partsynth was installed without its repository."),
    ] = None,
) -> None:
    """Make a git + DVC project of your own, in which `dvc repro` does everything."""
    from partsynth import project

    typer.echo(project.init(folder, preset, data, base))


@app.command(rich_help_panel=PROJECT)
def check(params: ParamsFile = PARAMS) -> None:
    """Check params.yaml, dvc.yaml and the folders they name, and tell all faults at once. Changes nothing."""
    from partsynth import project

    for line in project.check(Path.cwd(), params):
        typer.echo(line)


@app.command(rich_help_panel=PROJECT)
def upgrade() -> None:
    """Record the installed partsynth in a project made by init: stages whose code changed will run again."""
    from partsynth import project

    typer.echo(project.upgrade(Path.cwd()))


@app.command("params", rich_help_panel=PROJECT)
def explain_params(
    section: Annotated[Optional[str], typer.Argument(help="One section (e.g. train); all where left out.")] = None,
) -> None:
    """Explain every key of params.yaml: type, allowed values, default, meaning."""
    from partsynth import explain

    explain.show(section)


# --- results ------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=RESULTS)
def summary(
    metrics: Annotated[Path, typer.Option(help="What evaluate wrote.")] = Path("reports/metrics/summary.json"),
) -> None:
    """Print how the setups compare, where the report lies and how to open MLflow."""
    from partsynth import explain

    explain.show_summary(metrics)


@app.command(rich_help_panel=RESULTS)
def register(
    name: Annotated[
        Optional[str], typer.Argument(metavar="RUN", help="Run id or name; the best by validation where left out.")
    ] = None,
    alias: Annotated[str, typer.Option(help="The alias that it takes over.")] = "champion",
) -> None:
    """Register the chosen model in MLflow with a model card and the digests of its data."""
    from partsynth import champion

    typer.echo(champion.register(Path.cwd(), name, alias))


studies = typer.Typer(
    invoke_without_command=True,
    no_args_is_help=True,
    help="Tune one setup with Optuna on validation data; params.yaml, section study, says what and how. "
    "`partsynth study --trials 40` is short for `partsynth study run --trials 40`.",
)
app.add_typer(studies, name="study", rich_help_panel=RESULTS)
Trials = Annotated[Optional[int], typer.Option(min=1, help="Complete trials to have in the end (else study.trials).")]
Workers = Annotated[int, typer.Option(min=1, help="Processes here; any number of machines may join in.")]


def study_params(path: Path, trials: Optional[int] = None) -> Any:
    from partsynth import params

    loaded = params.load_all(path)
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
    from partsynth import study

    study.run(study_params(params, trials), Path.cwd(), workers)


@studies.command("show")
def study_show(params: ParamsFile = PARAMS) -> None:
    """Print trials, importance, Pareto front and history, and write reports/studies/NAME.json for the report."""
    from partsynth import study

    study.show(study_params(params), Path.cwd())


@studies.command("apply")
def study_apply(
    out: Annotated[Path, typer.Option(help="New parameter file; params.yaml itself is never written.")],
    trial: Annotated[Optional[int], typer.Option(min=0, help="Trial to take (else the best).")] = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Write params.yaml with the best trial's parameters to a new file, to compare and to copy."""
    from partsynth import study

    typer.echo(f"wrote {study.apply(study_params(params), Path.cwd(), out, trial)}")


@app.command(rich_help_panel=RESULTS)
def benchmark(
    preset: Annotated[str, typer.Option(help="benchmark (renders) or benchmark-photos (see presets/).")] = "benchmark",
    quick: Annotated[bool, typer.Option("--quick", help="Few replicates of the main setups: some 20 minutes.")] = False,
    data: Annotated[Optional[Path], typer.Option(help="Folder of photographs, for a preset that wants them.")] = None,
    work: Annotated[Path, typer.Option(help="Folder of the replicates; delete it to begin anew.")] = Path(
        ".work/benchmark"
    ),
    out: Annotated[Path, typer.Option(help="Folder for <preset>.md, .json, .png and the predictions.")] = Path(
        "reports"
    ),
    base: Annotated[
        Optional[Path], typer.Option(help="A models/base folder, where partsynth was installed without its repository.")
    ] = None,
) -> None:
    """Repeat the whole pipeline over seeds and compare all setups; started again, it goes on where it was."""
    from partsynth import benchmark as replicates

    replicates.run(preset, quick, data, work, out, base)


audits = typer.Typer(
    no_args_is_help=True,
    help="Which data made this model, where does this picture come from, what came of this photograph: by hash. "
    "Whatever is missing or cannot be verified is named, and the exit code is 1.",
)
app.add_typer(audits, name="audit", rich_help_panel=RESULTS)
AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def tell(result: Any, as_json: bool) -> None:
    from partsynth import audit

    raise typer.Exit(audit.present(result, as_json))


@audits.command("run")
def audit_run(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run id, alias of the registered model, or run name.")],
    out: Annotated[Path, typer.Option(help="New folder for that run's data.")],
    as_json: AsJson = False,
) -> None:
    """Check out exactly one run's data, tokens and parameters by hash, and verify every file."""
    from partsynth import audit

    tell(audit.run(Path.cwd(), name, out), as_json)


@audits.command("image")
def audit_image(
    what: Annotated[str, typer.Argument(metavar="PICTURE", help="Path, or sha256 (eight digits or more).")],
    regenerate: Annotated[bool, typer.Option("--regenerate", help="Make the picture again and compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """One picture's chain: photograph, set, prompt, token, seed, strength, base, verdict, and who trained on it."""
    from partsynth import audit

    tell(audit.image(Path.cwd(), what, regenerate), as_json)


@audits.command("source")
def audit_source(
    what: Annotated[str, typer.Argument(metavar="PHOTOGRAPH", help="Path, or sha256 (eight digits or more).")],
    as_json: AsJson = False,
) -> None:
    """Everything derived from one photograph, and the runs affected: for a takedown."""
    from partsynth import audit

    tell(audit.source(Path.cwd(), what), as_json)


@audits.command("diff")
def audit_diff(
    first: Annotated[str, typer.Argument(metavar="RUN_A")],
    second: Annotated[str, typer.Argument(metavar="RUN_B")],
    as_json: AsJson = False,
) -> None:
    """What differs between two runs: data by picture, parameters, code."""
    from partsynth import audit

    tell(audit.diff(Path.cwd(), first, second), as_json)


@audits.command("verify")
def audit_verify(as_json: AsJson = False) -> None:
    """The workspace against its hashes, manifests and the leak rules."""
    from partsynth import audit

    tell(audit.verify(Path.cwd()), as_json)


@audits.command("push")
def audit_push(
    remote: Annotated[Optional[str], typer.Option(help="DVC remote; the default one where left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send what every live run refers to to a DVC remote (`dvc push` knows the present state only)."""
    from partsynth import audit

    tell(audit.push(Path.cwd(), remote), as_json)


def main() -> None:
    app()


if __name__ == "__main__":
    sys.exit(main())
