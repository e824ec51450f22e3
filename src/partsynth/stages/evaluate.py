"""Accuracy and OOD figures of every setup, from one table of predictions per image.

Order of things: features of each image are extracted once per model; every choice (the k of kNN) is made on the
OOD-*validation* part; the predictions are rounded and written; all figures are computed from what was written, so
that ``partsynth recompute`` gives the same table from the file alone. OOD scores are fitted to the real training images
for every setup alike, whatever else a setup trained on: the setups differ in their encoder only.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

from partsynth.config.evaluation import Evaluate
from partsynth.config.training import Matrix
from partsynth.evaluation.looks import TABLE, saliency_csv
from partsynth.evaluation.plot_data import plot_tables, read_histories
from partsynth.evaluation.predict import predict
from partsynth.evaluation.predictions import read_predictions, to_csv
from partsynth.evaluation.results import Summary
from partsynth.evaluation.runs import (
    ModelRun,
    describe,
    model_runs,
    read_parts,
    read_selected,
    refuse_other_tables,
    set_folders,
)
from partsynth.evaluation.summary import summarise
from partsynth.evaluation.verdict import changes
from partsynth.store import workers
from partsynth.store.files import write_json, write_text_atomic
from partsynth.store.hashing import sha256_bytes, sha256_file
from partsynth.store.layout import Layout
from partsynth.store.reading import lacking, read_object
from partsynth.store.seal import sealed

SUMMARY, PREDICTIONS = "summary.json", "predictions.csv"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is read, and where results go."""

    params: Evaluate
    matrix: Matrix  # setups (baseline first) and seeds that must be there; models of others are left alone
    models: Path  # folder of <setup>/<seed>/
    real: Path
    ood: Path
    augmented: Path  # folder of the sets' folders
    selected: Path  # training tables: what tells the setups apart
    quality: Path  # tables of verdicts: their hashes alone
    out: Path  # summary.json and predictions.csv
    plots: Path
    root: Path


def run(inputs: Inputs) -> Summary | None:
    """Evaluate the models of the matrix; returns what is written to summary.json.

    Several processes deal the models out among them. The first one writes; the others return None.

    Raises
    ------
    UserError
        naming missing models or images, or classes of a model that are not the images' classes.
    """
    params, setups = inputs.params, inputs.matrix.setups
    runs = model_runs(inputs.models, inputs.matrix)
    selected = read_selected(inputs.selected, setups)
    refuse_other_tables(runs, selected)
    parts = read_parts(inputs.real, inputs.ood, inputs.augmented)
    print(f"evaluate: {len(runs)} models on {sum(map(len, parts.values()))} images")

    predicted = predict(params, runs, parts, inputs.root)
    if not workers.here().first:
        return None
    text = to_csv(predicted.rows)
    table = read_predictions(io.StringIO(text))
    trained = {run.setup: run.config.get("train", {}) for run in predicted.runs}
    manifests = [folder / "manifest.csv" for folder in (inputs.real, inputs.ood, *set_folders(inputs.augmented))]
    tables = [*manifests, *(inputs.selected / f"{s}.csv" for s in setups), *sorted(inputs.quality.glob("*.csv"))]
    summary = summarise(table, params, changes(setups, selected, trained)).model_copy(
        update={
            "choices": predicted.choices,
            "runs": predicted.runs,
            "data": describe(parts, selected, tables),
            "predictions_sha256": sha256_bytes(text.encode()),
        }
    )

    tables_of_plots = plot_tables(table, summary.headline_score, predicted.maps, read_histories(runs))
    if predicted.looks:
        tables_of_plots[TABLE] = saliency_csv(predicted.looks)
    for name, content in tables_of_plots.items():
        write_text_atomic(inputs.plots / name, content)
    write_text_atomic(inputs.out / PREDICTIONS, text)
    files = [inputs.out / PREDICTIONS, *(inputs.plots / name for name in tables_of_plots)]
    digests = {os.path.relpath(path, inputs.out): sha256_file(path) for path in files}
    write_json(inputs.out / SUMMARY, sealed(summary.dump(), digests))
    log_figures(runs, summary, inputs.root)
    return summary


def log_figures(runs: list[ModelRun], summary: Summary, root: Path) -> None:
    """Each model's own figures to its MLflow run, so that runs can be compared there."""
    from partsynth.tracking.studies import log_results

    unknown = []
    for setup, seed, _ in runs:
        record = Layout(root).run_record(setup, seed)
        if not record.is_file():
            continue
        place = summary.seeds[setup].index(seed)
        figures = {name: found.values[place] for name, found in summary.setups[setup].items()}
        if not log_results(root, _run_id(record), figures):
            unknown.append(f"{setup}-seed{seed}")
    if unknown:
        why = "a fresh clone, or deleted"
        print(f"evaluate: MLflow does not know the runs of {', '.join(unknown)} ({why}): see {SUMMARY}")


def _run_id(record: Path) -> str:
    named = read_object(record)
    lacking(record, named, {"run_id": str})
    return named["run_id"]
