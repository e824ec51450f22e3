"""Data of the plots, as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partsynth.core.evaluation.metrics import roc

if TYPE_CHECKING:
    import pandas as pd

GRID = np.linspace(0, 1, 101)  # OOD accepted, in the ROC files


def plot_tables(table: pd.DataFrame, maps: dict[str, Any], history: str) -> dict[str, str]:
    """File name -> CSV: ROC curves (one column a setup), confusion (one file a setup), the embedding map, histories."""
    files: dict[str, str] = {}
    runs = {key: rows for key, rows in table.groupby(["setup", "seed", "part"], sort=False)}
    setups = list(dict.fromkeys(table.setup))
    for kind in ("near", "far"):
        # a file without OOD has a header only, so that what dvc.yaml names exists
        curves = {
            s: np.mean(
                [
                    roc(runs[s, seed, "test"].knn, rows.knn, GRID)
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


def read_histories(runs: list[tuple[str, int, Path]]) -> str:
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
