"""What the replicates say together, from their joined predictions; what each was made of and took."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from partsynth import __version__
from partsynth.benchmark.plan import SECONDS, Replicate, changes
from partsynth.config.params import Params
from partsynth.evaluation.predictions import read_predictions
from partsynth.evaluation.results import (
    BenchmarkRun,
    BenchmarkSummary,
    Difference,
    ReplicateRun,
    Seconds,
    Summary,
    Target,
    read_summary,
)
from partsynth.evaluation.summary import summarise_replicates
from partsynth.store.files import read_json
from partsynth.store.hashing import sha256_file
from partsynth.store.layout import Layout


def summarise_benchmark(
    params: Params, replicates: Sequence[Replicate], work: Path, predictions: Path, command: str
) -> BenchmarkSummary:
    """All figures, from the file of joined predictions as it was written."""
    summary = summarise_replicates(read_predictions(predictions), params.evaluate, changes(params))
    runs = [lineage(work / replicate.folder, replicate) for replicate in replicates]
    found = set(summary.pairs())
    return summary.model_copy(
        update={
            "predictions": predictions.name,
            "predictions_sha256": sha256_file(predictions),
            "kinds": {name: params.benchmark.setups[name].kind for name in summary.order},
            "compared": [pair for pair in changes(params) if pair in found],
            "shots_of_all": shots_of_all(runs),
            "targets": targets(params, summary),
            "benchmark": BenchmarkRun(
                command=command,
                git_commit=", ".join(dict.fromkeys(str(run.git_commit) for run in runs)),
                partsynth_version=__version__,
                machine=machine(),
                minutes=round(sum(run.seconds.total for run in runs) / 60, 1),
                replicates=runs,
            ),
        }
    )


def targets(params: Params, summary: Summary) -> list[Target]:
    """The preset's targets with what was found."""
    return [
        Target(difference=found, met=met(found, target.mean, target.low), **target.model_dump())
        for target in params.benchmark.targets
        for found in [summary.difference(target.setup, target.against, target.measure)]
    ]


def met(found: Difference | None, mean: float | None, low: float | None) -> bool | None:
    """Whether a difference reaches a target's mean and lower end; None where it, or its interval, was not measured."""
    if found is None or (low is not None and found.low is None):
        return None
    reached = [(mean, found.mean), (low, found.low)]
    return all(value >= aim for aim, value in reached if aim is not None and value is not None)


def lineage(folder: Path, replicate: Replicate) -> ReplicateRun:
    """What a replicate's figures are made of and what it took."""
    layout = Layout(folder)
    summary, seconds = read_summary(layout.summary), read_json(folder / SECONDS)
    assert summary.data is not None  # the evaluate stage writes it
    runs = {s: read_json(layout.run_record(s, replicate.seed)) for s in replicate.setups}
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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}"
