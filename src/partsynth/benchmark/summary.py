"""What the replicates say together, from their joined predictions; what each was made of and took."""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth import __version__
from partsynth.benchmark.plan import SECONDS, Replicate, changes
from partsynth.config.benchmark import BEST
from partsynth.config.params import Params
from partsynth.core.evaluation.intervals import holm
from partsynth.core.evaluation.metrics import accuracy, balanced_accuracy
from partsynth.errors import UserError
from partsynth.evaluation.predictions import read_predictions
from partsynth.evaluation.results import (
    BenchmarkRun,
    BenchmarkSummary,
    Best,
    Difference,
    Effect,
    Interval,
    Primary,
    ReplicateRun,
    Seconds,
    Summary,
    Target,
    read_summary,
)
from partsynth.evaluation.summary import summarise_replicates
from partsynth.evaluation.verdict import effect_of
from partsynth.seams import METRICS
from partsynth.store.files import read_json
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import Layout
from partsynth.store.process import cores

if TYPE_CHECKING:
    import pandas as pd


def summarise_benchmark(
    params: Params,
    replicates: Sequence[Replicate],
    work: Path,
    predictions: Path,
    command: str,
    planned: int | None = None,
) -> BenchmarkSummary:
    """All figures, from the file of joined predictions as it was written."""
    runs = [lineage(work / replicate.folder, replicate) for replicate in replicates]
    about = BenchmarkRun(
        command=command,
        git_commit=", ".join(dict.fromkeys(str(run.git_commit) for run in runs)),
        partsynth_version=__version__,
        machine=machine(),
        minutes=round(sum(run.seconds.total for run in runs) / 60, 1),
        replicates=runs,
        **({} if planned is None else {"planned": planned}),
        **({} if (each := params.benchmark.initialisations) == 1 else {"initialisations": each}),
    )
    return figures(params, predictions, about)


def figures(params: Params, predictions: Path, about: BenchmarkRun) -> BenchmarkSummary:
    """What the predictions of a run say.

    Raises
    ------
    UserError
        where they have setups that the preset does not have.
    """
    table = read_predictions(predictions)
    summary = summarise_replicates(table, params.evaluate, changes(params), main_setups(params))
    if strange := [name for name in summary.order if name not in params.benchmark.setups]:
        raise UserError(
            f"{predictions} has setups that the preset does not have ({', '.join(strange)}): run the benchmark again, "
            "or take the preset as it was then"
        )
    found = set(summary.pairs())
    best = best_choice(params, table)
    return summary.model_copy(
        update={
            "predictions": predictions.name,
            "predictions_sha256": sha256_file(predictions),
            **({"notes": params.benchmark.notes} if params.benchmark.notes else {}),
            "kinds": {name: params.benchmark.setups[name].kind for name in summary.order},
            "compared": [pair for pair in changes(params) if pair in found],
            "shots_of_all": shots_of_all(about.replicates),
            "best": best.setup,
            "best_choice": best,
            "primary": primary(params, summary),
            "targets": targets(params, summary, best.setup),
            "benchmark": about,
        }
    )


def main_setups(params: Params) -> list[str]:
    """Those that the questions are about."""
    return [name for name, setup in params.benchmark.setups.items() if setup.kind == "main"]


def best_choice(params: Params, table: pd.DataFrame) -> Best:
    """The main setup with the highest accuracy on validation images over the replicates with all training images, of
    equals the first."""
    measure = balanced_accuracy if params.evaluate.accuracy == "classes" else accuracy
    whole = table[(table.part == "val") & (table.shots == 0)]
    tried = {
        name: round(float(np.mean([measure(one.class_name, one.predicted) for _, one in rows.groupby("seed")])), 6)
        for name in main_setups(params)
        if len(rows := whole[whole.setup == name])
    }
    title = "balanced accuracy" if measure is balanced_accuracy else "accuracy"
    best = max(tried, key=tried.__getitem__)  # the first of equals
    return Best.model_validate({"setup": best, "from": f"{title} on validation images", "tried": tried})


def primary(params: Params, summary: Summary) -> list[Primary]:
    """The declared hypotheses with what was found, corrected for all of them (Holm); what was not measured counts in
    the correction."""
    declared = {entry.question: entry for entry in params.benchmark.primary}
    found = {name: summary.difference(entry.setup, entry.base, entry.metric) for name, entry in declared.items()}
    plain = {name: 1.0 if one is None or one.p is None else one.p for name, one in found.items()}
    corrected = holm(plain)
    return [
        Primary(**entry.model_dump(), **_told(found[name], corrected[name], 1 - params.evaluate.confidence))
        for name, entry in declared.items()
    ]


def _told(found: Difference | None, p_holm: float, level: float) -> dict[str, Any]:
    if found is None or found.p is None:
        return {}
    better = METRICS[found.metric].more_is_better is not False if found.metric in METRICS else True
    effect: Effect = effect_of(found, better)
    if effect in ("helps", "hurts") and p_holm > level:
        effect = "no evidence"
    facts = {key: getattr(found, key) for key in ("mean", "low", "high", "p")}
    return facts | {"p_holm": float(f"{p_holm:.6g}"), "effect": effect}


def targets(params: Params, summary: Summary, best: str) -> list[Target]:
    """The preset's targets with what was found."""
    made = []
    for target in params.benchmark.targets:
        setup = best if target.setup == BEST else target.setup
        found: Interval | None
        if target.against is None:
            found = summary.setups.get(setup, {}).get(target.measure)
        else:
            found = summary.difference(setup, target.against, target.measure)
        told = target.model_dump() | {"setup": setup}
        made.append(Target(difference=found, met=met(found, target.mean, target.low), **told))
    return made


def met(found: Interval | None, mean: float | None, low: float | None) -> bool | None:
    """Whether a figure reaches a target's mean and lower end; None where it, or its interval, was not measured."""
    if found is None or (low is not None and found.low is None):
        return None
    reached = [(mean, found.mean), (low, found.low)]
    return all(value >= aim for aim, value in reached if aim is not None and value is not None)


def lineage(folder: Path, replicate: Replicate) -> ReplicateRun:
    """What a replicate's figures are made of and what it took."""
    layout = Layout(folder)
    summary, seconds = read_summary(layout.summary), read_json(folder / SECONDS)
    assert summary.data is not None  # the evaluate stage writes it
    runs = {
        setup if seed == replicate.seed else f"{setup}, seed {seed}": read_json(layout.run_record(setup, seed))
        for setup in replicate.setups
        for seed in replicate.seeds
    }
    return ReplicateRun(
        folder=replicate.folder,
        seed=replicate.seed,
        shots=replicate.shots,
        git_commit=seconds["git_commit"],
        mlflow_runs={setup: run["run_id"] for setup, run in runs.items()},
        manifests=summary.data.manifests,
        pictures={part: about.pictures for part, about in summary.data.parts.items()},
        classes=summary.data.parts["train"].classes,
        training=summary.data.training,
        choices=summary.choices,
        predictions_sha256=summary.predictions_sha256,
        files={name: sha256_file(folder / name) for name in ("params.yaml", "dvc.yaml", "dvc.lock")},
        seconds=Seconds(stages=seconds["stages"], total=round(seconds["total"], 1)),
    )


def shots_of_all(runs: Sequence[ReplicateRun]) -> float:
    """Training images per class where all are used, on average."""
    whole = [run for run in runs if run.shots is None]
    return round(sum(run.pictures["train"] / run.classes for run in whole) / len(whole), 1)


def machine() -> str:
    """Processor and cores, no names."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text())
        model = found.group(1) if found else model
    return f"{model}, {cores()} cores, Python {platform.python_version()}"
