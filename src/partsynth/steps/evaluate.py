"""Accuracy and OOD figures of every setup, from one table of per-picture predictions.

Order of things: features of each picture are extracted once a model; every choice (the k of kNN) is made on the
OOD-*validation* part; the predictions are rounded and written; all figures are computed from what was written, so
that ``recompute`` gives the same table from the file alone. OOD scores are fitted to the real training pictures for
every setup alike, whatever else a setup trained on: the setups differ in their encoder only.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.comparison import changes, summarise, summarise_replicates
from partsynth.kernel import metrics
from partsynth.kernel import ood as scoring
from partsynth.params import Evaluate, Matrix
from partsynth.records import (
    AugmentedRecord,
    RealRecord,
    Record,
    SelectedRecord,
    UserError,
    read_json,
    read_manifest,
    read_picture,
    sha256_bytes,
    sha256_file,
    write_json,
    write_text_atomic,
)

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS = "predictions.csv"
SUMMARY = "summary.json"
MAP_PICTURES = 160  # a kind in the embedding map
GRID = np.linspace(0, 1, 101)  # OOD accepted, in the ROC files


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
) -> dict[str, Any]:
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

    predictions, chosen, maps, described = _predict(params, runs, parts, root)
    text = _to_csv(predictions)
    table = read_predictions(io.StringIO(text))
    summary = {
        **summarise(table, params, changes(setups, choices, {d["setup"]: d["config"].get("train", {}) for d in described})),
        "choices": chosen,
        "runs": described,
        "data": _data(parts, [real, ood, *_sets(augmented)], selected, quality, setups),
        "predictions_sha256": sha256_bytes(text.encode()),
    }

    for name, content in _plots(table, maps, _histories(runs)).items():
        write_text_atomic(plots / name, content)
    write_text_atomic(out / PREDICTIONS, text)
    write_json(out / SUMMARY, summary)
    _log(runs, summary, root)
    return summary


def _log(runs: list[tuple[str, int, Path]], summary: dict[str, Any], root: Path) -> None:
    """Each model's own figures to its MLflow run, so that runs can be compared there."""
    from partsynth import tracking

    unknown = []
    for setup, seed, folder in runs:
        if not (folder / "run.json").is_file():
            continue
        place = summary["seeds"][setup].index(seed)
        figures = {name: found["values"][place] for name, found in summary["setups"][setup].items()}
        if not tracking.log_results(root, read_json(folder / "run.json")["run_id"], figures):
            unknown.append(f"{setup}-seed{seed}")
    if unknown:
        print(f"evaluate: MLflow does not know the runs of {', '.join(unknown)}: their figures are in {SUMMARY} alone")


# --- what there is ------------------------------------------------------------------------------------------------


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


def _load(parts: dict[str, Sequence[Record]], size: int, root: Path) -> dict[str, np.ndarray]:
    """Every part as uint8 (n, size, size, 3), its bytes checked against the manifest."""
    from rich.progress import track

    loaded = {}
    for part, rows in track(parts.items(), description="reading", transient=True):
        loaded[part] = np.stack([np.asarray(read_picture(root, row, size)) for row in rows])
    return loaded


# --- predictions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Embedded:
    """One part seen by one model."""

    features: np.ndarray  # (n, D)
    logits: np.ndarray  # (n, C)


def _predict(params: Evaluate, runs: list[tuple[str, int, Path]], parts: dict, root: Path) -> tuple:
    """Rows of predictions, the choices, points of the embedding map and a description, for every run."""
    import torch
    from rich.progress import track

    from partsynth.kernel import encoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pictures: dict[int, dict[str, np.ndarray]] = {}
    rows, choices, maps, described = [], {}, {}, []
    for setup, seed, folder in track(runs, description="evaluating", transient=True):
        model, config = encoder.load(folder, device)
        classes, size = list(config["classes"]), model.size
        _check_classes(folder, classes, parts)
        if size not in pictures:
            pictures[size] = _load(parts, size, root)
        seen = {}
        for part, images in pictures[size].items():
            seen[part] = Embedded(*(t.double().numpy() for t in encoder.embed(model, images, params.batch_size)))
            if not (np.isfinite(seen[part].features).all() and np.isfinite(seen[part].logits).all()):
                raise UserError(
                    f"{folder} gives non-finite outputs on {part}: its training diverged; lower "
                    "train.learning_rate or raise train.temperature"
                )
        weight, bias = (p.detach().cpu().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
        labels = {part: np.array([classes.index(row.class_name) for row in parts[part]]) for part in ("train", "val")}
        detectors = scoring.fit(seen["train"].features, labels["train"], weight, bias)
        k, choice = choose_k(params.k, detectors, seen, labels["val"])
        choices.setdefault(setup, {})[str(seed)] = choice
        for part, embedded in seen.items():
            if part != "train":
                rows += _rows(setup, seed, part, parts[part], embedded, detectors, k, classes)
        if setup not in maps:
            maps[setup] = _map(seed, parts, seen)
        described.append(
            {
                "setup": setup,
                "seed": seed,
                "config": {key: v for key, v in config.items() if key != "classes"},
                "sha256": {p.name: sha256_file(p) for p in sorted(folder.glob("*.safetensors"))},
            }
        )
    return rows, choices, maps, described


def _check_classes(folder: Path, classes: list[str], parts: dict) -> None:
    known = sorted({row.class_name for row in parts["train"]})
    if sorted(classes) != known:
        raise UserError(
            f"{folder / 'config.json'} has the classes {', '.join(classes)}; the training pictures show "
            f"{', '.join(known)}: train again (dvc repro)"
        )


def choose_k(
    candidates: Iterable[int], detectors: scoring.Detectors, seen: dict[str, Embedded], val_labels: np.ndarray
) -> tuple[int, dict[str, Any]]:
    """The k of kNN with the best mean AUROC of near and far OOD *validation* pictures against real validation ones.

    Where there are no OOD validation pictures: the k with the best kNN accuracy on val. Ties go to the smallest k.

    Parameters
    ----------
    candidates : those beyond the number of fitted pictures count as that number
    seen : at least "val"
    val_labels : (n,) class indices of the real validation pictures
    """
    allowed = sorted({min(k, len(detectors.bank)) for k in candidates})
    against = [part for part in ("near_val", "far_val") if part in seen]
    found = {p: scoring.neighbours(detectors, seen[p].features, allowed[-1]) for p in ["val", *against]}
    if against:
        source = f"mean AUROC of {' and '.join(against)} against val"
        pairs = {k: [(found["val"][0][:, k - 1], found[p][0][:, k - 1]) for p in against] for k in allowed}
        tried = {k: np.mean([metrics.auroc(*pair) for pair in pairs[k]]) for k in allowed}
    else:
        source = "kNN accuracy on val, as there are no OOD validation pictures"
        count = detectors.labels.max() + 1
        tried = {k: metrics.accuracy(val_labels, scoring.vote(found["val"][1][:, :k], count)) for k in allowed}
    k = max(allowed, key=lambda k: (round(float(tried[k]), 9), -k))
    return k, {"k": k, "from": source, "tried": {str(n): round(float(v), 6) for n, v in tried.items()}}


def _rows(
    setup: str,
    seed: int,
    part: str,
    records: Sequence,
    seen: Embedded,
    detectors: scoring.Detectors,
    k: int,
    classes: list[str],
) -> list[dict[str, Any]]:
    found = scoring.scores(detectors, seen.features, seen.logits, k)
    best = seen.logits.argmax(axis=1)
    near = scoring.vote(scoring.neighbours(detectors, seen.features, k)[1], len(classes))
    rows = []
    for i, record in enumerate(records):
        rows.append(
            {
                "setup": setup,
                "seed": seed,
                "part": part,
                "path": record.path,
                "class_name": record.class_name,
                "group": record.group if isinstance(record, RealRecord) else record.source_group,
                "predicted": classes[best[i]],
                "knn_predicted": classes[near[i]],
                "confidence": 1 - found["max_softmax"][i],
                **{name: found[name][i] for name in scoring.SCORES},
            }
        )
    return rows


def _to_csv(rows: list[dict[str, Any]]) -> str:
    """Six significant digits: below them, machines and thread counts differ."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return buffer.getvalue()


def read_predictions(source: Path | io.StringIO) -> pd.DataFrame:
    """The table of predictions: one row a run and picture, columns as in ``_rows``; a benchmark's has more of them,
    is compressed, and leaves out scores that no figure needs."""
    import pandas as pd

    words = dict.fromkeys(["setup", "part", "path", "class_name", "group", "predicted", "knn_predicted"], str)
    empty = {name: [""] for name in scoring.SCORES}
    try:
        table = pd.read_csv(source, dtype=words | {"against": str}, keep_default_na=False, na_values=empty)
    except FileNotFoundError:
        raise UserError(f"{source} is missing: run the evaluate stage (dvc repro)") from None
    missing = sorted({*words, "seed", "confidence", *scoring.SCORES} - set(table.columns))
    if missing:
        raise UserError(f"{source} has no columns {', '.join(missing)}: it is not a table of predictions")
    return table


# --- the table ------------------------------------------------------------------------------------------------------


def recompute(predictions: Path, params: Evaluate | None = None) -> dict[str, Any]:
    """setups, differences, scores, classes, absent and verdict of summary.json, from the stored predictions alone.

    ``render_table`` makes text of it. Wording of the verdict names the setups, as the file does not hold what
    they were trained on.
    """
    table, params = read_predictions(predictions), params or Evaluate()
    found = summarise_replicates(table, params) if "shots" in table else summarise(table, params, None)
    return found | {"predictions_sha256": sha256_file(predictions)}


def render_table(summary: dict[str, Any]) -> str:
    """The main table and the differences as plain text, in percent and points."""
    setups = summary["order"]
    titles = {about["name"]: about["title"] for about in summary["metrics"]}
    lines = [f"{'':38}" + "".join(f"{s:>28}" for s in setups)]
    for metric, title in titles.items():
        cells = (summary["setups"][s].get(metric) for s in setups)
        lines.append(f"{title:38}" + "".join(f"{_cell(c, 1):>28}" for c in cells))
    for pair, found in summary["differences"].items():
        lines += ["", f"{pair} (points)"]
        lines += [f"  {titles[m]:36}{_cell(found[m], 1, sign=True):>28}" for m in titles if m in found]
    lines += ["", *(sentence["text"] for sentence in summary["verdict"])]
    for shots, few in summary.get("few_shot", {}).items():
        lines += ["", f"{shots} training pictures a class", render_table(few)]
    lines += [f"{m}: absent, {reason}" for m, reason in summary["absent"].items()]
    return "\n".join(lines)


def _cell(found: dict[str, Any] | None, digits: int, sign: bool = False) -> str:
    if found is None:
        return "-"
    form = f"{'+' if sign else ''}.{digits}f"
    if found["low"] is None:
        return f"{100 * found['mean']:{form}}"
    return f"{100 * found['mean']:{form}} [{100 * found['low']:{form}}, {100 * found['high']:{form}}]"


# --- data and plots -----------------------------------------------------------------------------------------------


def _data(parts: dict, folders: list[Path], selected: Path, quality: Path, setups: list[str]) -> dict[str, Any]:
    def size(rows: Sequence) -> dict[str, int]:
        return {
            "pictures": len(rows),
            "classes": len({r.class_name for r in rows}),
            "groups": len({r.group if isinstance(r, RealRecord) else r.source_group for r in rows}),
        }

    files = [
        *(f / "manifest.csv" for f in folders),
        *(selected / f"{s}.csv" for s in setups),
        *sorted(quality.glob("*.csv")),
    ]
    return {
        "parts": {part: size(rows) for part, rows in parts.items()},
        "manifests": {path.as_posix(): sha256_file(path) for path in files if path.exists()},
        "training": {
            s: _training(read_manifest(path, SelectedRecord))
            for s in setups
            if (path := selected / f"{s}.csv").exists()
        },
    }


def _training(rows: list[SelectedRecord]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        found[f"{row.origin} {row.role}"] = found.get(f"{row.origin} {row.role}", 0) + 1
    return found


def _map(seed: int, parts: dict, seen: dict[str, Embedded]) -> dict[str, Any]:
    """Unit features of evenly taken test and OOD pictures, with what they are."""
    kept = [
        (part, np.unique(np.linspace(0, len(parts[part]) - 1, MAP_PICTURES).astype(int)))
        for part in ("test", "near_test", "far_test")
        if part in parts
    ]
    return {
        "features": scoring.unit(np.concatenate([seen[part].features[index] for part, index in kept])),
        "rows": [(seed, part, parts[part][i].class_name, parts[part][i].path) for part, index in kept for i in index],
    }


def _plots(table: pd.DataFrame, maps: dict[str, Any], history: str) -> dict[str, str]:
    """File name -> CSV: ROC curves (one column a setup), confusion (one file a setup), the embedding map, histories."""
    files: dict[str, str] = {}
    runs = {key: rows for key, rows in table.groupby(["setup", "seed", "part"], sort=False)}
    setups = list(dict.fromkeys(table.setup))
    for kind in ("near", "far"):
        # a file without OOD has a header only, so that what dvc.yaml names exists
        curves = {
            s: np.mean(
                [
                    metrics.roc(runs[s, seed, "test"].knn, rows.knn, GRID)
                    for (name, seed, part), rows in runs.items()
                    if (name, part) == (s, f"{kind}_test")
                ],
                axis=0,
            )
            for s in setups
            if any(key[0] == s and key[2] == f"{kind}_test" for key in runs)
        }
        lines = [",".join(["fpr", *setups])]
        if curves:
            lines += [",".join([f"{g:.2f}", *(f"{curves[s][i]:.6f}" for s in setups)]) for i, g in enumerate(GRID)]
        files[f"roc_{kind}.csv"] = "\n".join(lines) + "\n"
    for setup in setups:
        rows = table[(table.setup == setup) & (table.part == "test")]
        files[f"confusion/{setup}.csv"] = (
            rows[["seed", "class_name", "predicted"]]
            .rename(columns={"class_name": "actual"})
            .to_csv(index=False, lineterminator="\n")
        )
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["setup", "seed", "part", "class_name", "path", "x", "y"])
    for setup, points in maps.items():
        for row, (x, y) in zip(points["rows"], _flatten(points["features"]), strict=True):
            writer.writerow([setup, *row, f"{x:.3f}", f"{y:.3f}"])
    files["embedding.csv"] = buffer.getvalue()
    if history:
        files["history.csv"] = history
    return files


def _flatten(features: np.ndarray) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) from a PCA start, (n, D) -> (n, 2)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    reduced = PCA(min(30, *features.shape), random_state=0).fit_transform(features)
    if len(reduced) < 8:
        return np.pad(reduced[:, :2], ((0, 0), (0, 2 - min(2, reduced.shape[1]))))
    perplexity = min(30.0, (len(reduced) - 1) / 4)
    with threadpool_limits(1):  # its threads wait by spinning, which on a busy machine takes ten times as long
        return TSNE(2, perplexity=perplexity, init="pca", max_iter=500, random_state=0).fit_transform(
            reduced.astype(np.float32)
        )


def _histories(runs: list[tuple[str, int, Path]]) -> str:
    """The runs' history.csv files under one header with setup and seed; columns that one lacks stay empty."""
    import pandas as pd

    found = []
    for setup, seed, folder in runs:
        if (folder / "history.csv").exists():
            history = pd.read_csv(folder / "history.csv")
            history.insert(0, "setup", setup)
            history.insert(1, "seed", seed)
            found.append(history)
    return pd.concat(found).to_csv(index=False, lineterminator="\n") if found else ""
