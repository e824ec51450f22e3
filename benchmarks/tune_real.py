"""The same tuning budget for `real` as for the setups with edits: crop and jitter of the views, and the edits' share.

Each setup gets the same number of trials: the first with the project's own values, the others with values from one
low-discrepancy sequence, so that crop and jitter are the same in a setup's third trial as in another's. What decides is
validation accuracy, the mean over the projects. As the best of many is too good by chance, the chosen values and the
project's own are trained again from new seeds; figures of the test are made for these alone. Projects are finished
ones of development renders (the preset benchmark-development) or of photographs; a second start goes on.

    python benchmarks/tune_real.py --projects .work/benchmark/benchmark-development/all-seed* --trials 8

prints the table and writes reports/tune-real.md and .json.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import repository
import upper_bound

WORK = ".work/tune_real"  # of a project: the trials' models
CROP, JITTER, SHARE = (0.2, 1.0), (0.0, 2.0), (0.05, 0.5)  # lowest and highest; the share logarithmically
SHOWN = ("accuracy_test", "accuracy_shifted")


def points(trials: int, own: Mapping[str, float], synthetic: bool) -> list[dict[str, float]]:
    """The values of each trial, the project's own first; ``synthetic``: the setup has edits, whose share varies too."""
    from scipy.stats import qmc

    found = [dict(own)]
    for crop, jitter, share in qmc.Halton(3, scramble=False).random(trials)[1:].tolist():  # the first is all lowest
        values = {
            "crop": round(CROP[0] + crop * (CROP[1] - CROP[0]), 2),
            "jitter": round(JITTER[0] + jitter * (JITTER[1] - JITTER[0]), 2),
            "synthetic_share": round(SHARE[0] * (SHARE[1] / SHARE[0]) ** share, 2),
        }
        found.append({name: values[name] if name != "synthetic_share" or synthetic else own[name] for name in values})
    return found


def best(accuracies: Sequence[float]) -> int:
    """The trial of the highest accuracy; the first of equals, so that the project's own values are kept on a tie."""
    return max(range(len(accuracies)), key=lambda trial: (accuracies[trial], -trial))


def read(root: Path, setup: str, steps: int) -> tuple[Any, list[Any]]:
    """Parameters and training table of one setup.

    Raises
    ------
    UserError
        where the project's renders are the benchmark's: nothing may be chosen on those; and where it has no such setup.
    """
    from partsynth.config.load import load_all
    from partsynth.errors import UserError
    from partsynth.records.manifest import read_manifest
    from partsynth.records.rows import SelectedRecord
    from partsynth.store.layout import SELECTED

    params = load_all(root / "params.yaml")
    if params.ingest.source == "rendered" and params.render.roles != "development":
        raise UserError(
            f"{root / 'params.yaml'}: render.roles is {params.render.roles}; choices are made on renders of the roles "
            "development (partsynth benchmark --preset benchmark-development)"
        )
    if setup not in params.select:
        raise UserError(f"{root / 'params.yaml'}: select has no {setup!r}; it has {', '.join(params.select)}")
    train = params.select[setup].training(params.train)
    if steps:
        train = train.model_copy(update={"steps": steps, "eval_every": steps})
    rows = read_manifest(root / SELECTED / f"{setup}.csv", SelectedRecord)
    return params.model_copy(update={"train": train}), rows


def accuracy(root: Path, params: Any, rows: list[Any], values: Mapping[str, float], name: str, seed: int) -> float:
    """Validation accuracy of one training, made unless it is there."""
    from partsynth.training import classifier

    changed = params.model_copy(update={"train": params.train.model_copy(update=dict(values))})
    folder = upper_bound.train(root, changed, rows, name, seed, WORK)
    _, config = classifier.load(folder)
    return float(config["metrics"]["val_accuracy"])


def tune(projects: Sequence[Path], setup: str, trials: int, steps: int) -> dict[str, Any]:
    """All trials of one setup, in each project with that project's first seed, and which is the best."""
    read_ones = [(root, *read(root, setup, steps)) for root in projects]
    synthetic = any(row.origin != "real" for _, _, rows in read_ones for row in rows)
    train = read_ones[0][1].train
    own = {"crop": train.crop, "jitter": train.jitter, "synthetic_share": train.synthetic_share}
    rows_of_table: list[dict[str, Any]] = []
    for number, values in enumerate(points(trials, own, synthetic)):
        each = []
        for root, params, rows in read_ones:
            print(f"{root.name}: {setup}, trial {number} of {trials}, {values}", flush=True)
            each.append(accuracy(root, params, rows, values, f"{setup}-{number}", params.matrix.seeds[0]))
        rows_of_table.append({**values, "val_accuracy": sum(each) / len(each), "of_projects": each})
    chosen = best([row["val_accuracy"] for row in rows_of_table])
    return {"setup": setup, "synthetic": synthetic, "trials": rows_of_table, "chosen": chosen}


def again(projects: Sequence[Path], tuned: Mapping[str, Any], steps: int, seeds: int) -> dict[str, dict[str, float]]:
    """The project's own values and the chosen ones, trained from new seeds: what each is worth."""
    import pandas as pd

    from partsynth.evaluation.runs import ModelRun
    from partsynth.evaluation.summary import summarise_replicates

    setup, tables, validated = tuned["setup"], [], dict[str, list[float]]()
    for place, root in enumerate(projects):
        params, rows = read(root, setup, steps)
        runs = []
        for number in sorted({0, tuned["chosen"]}):
            name = "chosen" if number else "own"
            values = {key: tuned["trials"][number][key] for key in ("crop", "jitter", "synthetic_share")}
            for seed in range(1000, 1000 + seeds):
                print(f"{root.name}: {setup}, {name} again, seed {seed}", flush=True)
                found = accuracy(root, params, rows, values, f"{setup}-{number}", seed)
                validated.setdefault(name, []).append(found)
                runs.append(ModelRun(name, seed, root / WORK / "models" / f"{setup}-{number}" / str(seed)))
        table = upper_bound.predictions(root, params, runs)
        table["seed"] += 10_000 * place
        table.insert(2, "shots", 0)
        table.insert(3, "against", ["own" if name != "own" else "" for name in table.setup])
        tables.append(table)
    summary = summarise_replicates(pd.concat(tables, ignore_index=True), params.evaluate)
    return {
        name: {
            "val_accuracy": sum(validated[name]) / len(validated[name]),
            **{metric: summary.setups[name][metric].mean for metric in SHOWN if metric in summary.setups[name]},
        }
        for name in validated
    }


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# The same tuning for photographs alone as with edits",
        "",
        f"    {found['command']}",
        "",
        f"Commit {found['git_commit']}; {found['projects']} projects, {found['steps']} steps. Trial 0 has the "
        "project's own values. Chosen by validation accuracy, the mean over the projects, in per cent.",
    ]
    for tuned in found["setups"]:
        share = tuned["synthetic"]
        lines += ["", f"## `{tuned['setup']}`", ""]
        lines += ["| trial | crop | jitter |" + (" share |" if share else "") + " validation accuracy |"]
        lines += ["|---|---|---|" + ("---|" if share else "") + "---|"]
        for number, row in enumerate(tuned["trials"]):
            cells = [f"{row['crop']:g}", f"{row['jitter']:g}", *([f"{row['synthetic_share']:g}"] if share else [])]
            told = f"{100 * row['val_accuracy']:.1f}"
            cells += [f"**{told}**" if number == tuned["chosen"] else told]
            lines.append(f"| {number} | " + " | ".join(cells) + " |")
        if again_found := tuned.get("again"):
            lines += ["", f"Trained again from {found['again']} new seed(s) in each project:", ""]
            lines += ["| values | validation | test | shifted |", "|---|---|---|---|"]
            for name, figures in again_found.items():
                shown = [figures.get(metric) for metric in ("val_accuracy", *SHOWN)]
                told_ones = ["" if value is None else f"{100 * value:.1f}" for value in shown]
                lines.append(f"| {name} | " + " | ".join(told_ones) + " |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    from partsynth.errors import UserError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=Path, nargs="+", required=True, help="finished development projects")
    parser.add_argument("--setups", nargs="+", default=["real", "real_id"])
    parser.add_argument("--trials", type=int, default=8, help="of each setup")
    parser.add_argument("--again", type=int, default=1, help="trainings of own and chosen values per project; 0 = none")
    parser.add_argument("--steps", type=int, default=0, help="of training; 0 = the project's")
    parser.add_argument("--out", type=Path, default=Path("reports/tune-real"), help="without suffix")
    args = parser.parse_args(arguments)

    from partsynth.store.files import write_json, write_text_atomic

    projects = [root.resolve() for root in args.projects]
    try:
        setups = [tune(projects, setup, args.trials, args.steps) for setup in args.setups]
        for tuned in setups:
            if args.again:
                tuned["again"] = again(projects, tuned, args.steps, args.again)
        steps = read(projects[0], args.setups[0], args.steps)[0].train.steps
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    found = {
        "command": shlex.join(["python", os.path.relpath(__file__), *(arguments or sys.argv[1:])]),
        "git_commit": repository.commit(repository.WHOLE),
        "projects": len(projects),
        "steps": steps,
        "again": args.again,
        "setups": setups,
    }
    write_json(args.out.with_suffix(".json"), found)
    write_text_atomic(args.out.with_suffix(".md"), page(found))
    print(page(found))


if __name__ == "__main__":
    main()
