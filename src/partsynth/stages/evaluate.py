"""Accuracy and OOD figures of every setup, from one table of per-picture predictions.

Order of things: features of each picture are extracted once a model; every choice (the k of kNN) is made on the
OOD-*validation* part; the predictions are rounded and written; all figures are computed from what was written, so
that ``recompute`` gives the same table from the file alone. OOD scores are fitted to the real training pictures for
every setup alike, whatever else a setup trained on: the setups differ in their encoder only.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from partsynth.config.training import Evaluate, Matrix
from partsynth.errors import UserError
from partsynth.evaluation.plot_data import plot_tables, read_histories
from partsynth.evaluation.predict import predict
from partsynth.evaluation.predictions import PREDICTIONS, read_predictions, to_csv
from partsynth.evaluation.results import Choice, Data, EvaluatedRun, PartSize, Summary
from partsynth.evaluation.summary import summarise
from partsynth.evaluation.verdict import changes
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, SelectedRecord
from partsynth.store.files import read_json, write_json, write_text_atomic
from partsynth.store.hashing import sha256_bytes, sha256_file

SUMMARY = "summary.json"


def run(
    params: Evaluate,
    models: Path,
    real: Path,
    ood: Path,
    augmented: Path,
    selected: Path,
    quality: Path,
    out: Path,
    plots: Path,
    root: Path,
    matrix: Matrix,
) -> Summary:
    """Evaluate ``models``/<setup>/<seed> and write ``out``/{summary.json, predictions.csv} and DVC plots in ``plots``.

    Parameters
    ----------
    models : models/supcon
    real, ood, augmented : data/real, data/ood and data/augmented, each set with its manifest.csv
    selected, quality : data/selected and data/quality, read for what tells the setups apart and for their hashes
    matrix : the setups (baseline first) and seeds that must be there; models of others are left alone

    Returns
    -------
    The content of summary.json.

    Raises
    ------
    UserError
        naming missing models or pictures, or classes of a model that are not the pictures' classes.
    """
    runs, setups = _runs(models, matrix), matrix.setups
    choices = {
        name: read_manifest(path, SelectedRecord) for name in setups if (path := selected / f"{name}.csv").exists()
    }
    parts = _parts(real, ood, augmented)
    print(f"evaluate: {len(runs)} models on {sum(map(len, parts.values()))} pictures")

    predictions, chosen, maps, described = predict(params, runs, parts, root)
    text = to_csv(predictions)
    table = read_predictions(io.StringIO(text))
    trained = {d["setup"]: d["config"].get("train", {}) for d in described}
    summary = summarise(table, params, changes(setups, choices, trained)).model_copy(
        update={
            "choices": {s: {n: Choice(**c) for n, c in seeds.items()} for s, seeds in chosen.items()},
            "runs": [EvaluatedRun(**d) for d in described],
            "data": _data(parts, [real, ood, *_sets(augmented)], selected, quality, setups),
            "predictions_sha256": sha256_bytes(text.encode()),
        }
    )

    for name, content in plot_tables(table, maps, read_histories(runs)).items():
        write_text_atomic(plots / name, content)
    write_text_atomic(out / PREDICTIONS, text)
    write_json(out / SUMMARY, summary.dump())
    _log(runs, summary, root)
    return summary


def _log(runs: list[tuple[str, int, Path]], summary: Summary, root: Path) -> None:
    """Each model's own figures to its MLflow run, so that runs can be compared there."""
    from partsynth.tracking.studies import log_results

    unknown = []
    for setup, seed, folder in runs:
        if not (folder / "run.json").is_file():
            continue
        place = summary.seeds[setup].index(seed)
        figures = {name: found.values[place] for name, found in summary.setups[setup].items()}
        if not log_results(root, read_json(folder / "run.json")["run_id"], figures):
            unknown.append(f"{setup}-seed{seed}")
    if unknown:
        print(f"evaluate: MLflow does not know the runs of {', '.join(unknown)}: their figures are in {SUMMARY} alone")


def _runs(models: Path, matrix: Matrix) -> list[tuple[str, int, Path]]:
    runs = [(setup, seed, models / setup / str(seed)) for setup in matrix.setups for seed in matrix.seeds]
    whole = ("config.json", "encoder.safetensors", "classifier.safetensors")
    missing = [str(folder) for _, _, folder in runs if not all((folder / name).exists() for name in whole)]
    if missing:
        raise UserError(f"no whole trained model in {', '.join(missing)}: run the train stages (dvc repro)")
    if not runs:
        raise UserError("matrix names no setup or no seed, so there is nothing to evaluate")
    return runs


def _sets(augmented: Path) -> list[Path]:
    return sorted(p.parent for p in augmented.glob("*/manifest.csv"))


def _parts(real: Path, ood_pictures: Path, augmented: Path) -> dict[str, Sequence[RealRecord | AugmentedRecord]]:
    """Pictures by part: train, val, test, shifted, near_val, near_test, far_val, far_test, set_<name>; none empty."""
    parts: dict[str, list] = {}
    for row in read_manifest(real / "manifest.csv", RealRecord):
        parts.setdefault(row.split, []).append(row)
    if (ood_pictures / "manifest.csv").exists():
        for row in read_manifest(ood_pictures / "manifest.csv", RealRecord):
            parts.setdefault(f"{row.role.removesuffix('_ood')}_{row.split}", []).append(row)
    for folder in _sets(augmented):
        parts[f"set_{folder.name}"] = list(read_manifest(folder / "manifest.csv", AugmentedRecord))
    order = ["train", "val", "test", "shifted", "near_val", "near_test", "far_val", "far_test"]
    missing = [part for part in ("train", "val", "test") if not parts.get(part)]
    if missing:
        raise UserError(f"{real / 'manifest.csv'} has no picture in {', '.join(missing)}")
    return {part: parts[part] for part in [*order, *sorted(set(parts) - set(order))] if parts.get(part)}


def _data(parts: dict, folders: list[Path], selected: Path, quality: Path, setups: list[str]) -> Data:
    def size(rows: Sequence) -> PartSize:
        return PartSize(
            pictures=len(rows),
            classes=len({r.class_name for r in rows}),
            groups=len({r.group if isinstance(r, RealRecord) else r.source_group for r in rows}),
        )

    files = [
        *(f / "manifest.csv" for f in folders),
        *(selected / f"{s}.csv" for s in setups),
        *sorted(quality.glob("*.csv")),
    ]
    return Data(
        parts={part: size(rows) for part, rows in parts.items()},
        manifests={path.as_posix(): sha256_file(path) for path in files if path.exists()},
        training={
            s: _training(read_manifest(path, SelectedRecord))
            for s in setups
            if (path := selected / f"{s}.csv").exists()
        },
    )


def _training(rows: list[SelectedRecord]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[f"{row.origin} {row.role}"] = found.get(f"{row.origin} {row.role}", 0) + 1
    return found
