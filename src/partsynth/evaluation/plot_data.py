"""Data of the plots, as CSV."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from partsynth.core.evaluation.metrics import roc
from partsynth.errors import UserError
from partsynth.evaluation.runs import ModelRun
from partsynth.store.files import csv_text
from partsynth.store.reading import read_table

if TYPE_CHECKING:
    import pandas as pd

GRID = np.linspace(0, 1, 101)  # OOD accepted, in the ROC files


class MapPoint(NamedTuple):
    """What a point of the embedding map is."""

    seed: int
    part: str
    class_name: str
    path: str


@dataclass(frozen=True)
class Points:
    """Images of one setup to be drawn as a map."""

    rows: list[MapPoint]
    features: np.ndarray  # (n, D) unit


def plot_tables(table: pd.DataFrame, score: str, maps: dict[str, Points], history: str) -> dict[str, str]:
    """File name -> CSV: ROC curves (one column per setup), confusion (one file per setup), embedding map, histories.

    Parameters
    ----------
    table : of predictions
    score : the OOD score of the ROC curves; without its column they are empty, as without OOD images
    maps : setup -> what to draw
    history : as ``read_histories`` gives it
    """
    setups = list(dict.fromkeys(table.setup))
    points = (
        [setup, *about, f"{x:.3f}", f"{y:.3f}"]
        for setup, found in maps.items()
        for about, (x, y) in zip(found.rows, _flatten(found.features), strict=True)
    )
    files = {f"roc_{kind}.csv": _roc(table, score, f"{kind}_test", setups) for kind in ("near", "far")}
    for setup in setups:
        rows = table[(table.setup == setup) & (table.part == "test")]
        counted = rows[["seed", "class_name", "predicted"]].itertuples(index=False)
        files[f"confusion/{setup}.csv"] = csv_text(["seed", "actual", "predicted"], counted)
    files["embedding.csv"] = csv_text(["setup", "seed", "part", "class_name", "path", "x", "y"], points)
    if history:
        files["history.csv"] = history
    return files


def _roc(table: pd.DataFrame, score: str, part: str, setups: list[str]) -> str:
    """Mean curve over seeds of each setup; a header alone where nothing was measured, for dvc.yaml names the file."""
    lines: list[list[str]] = []
    if score in table and (table.part == part).any():
        curves = []
        for setup in setups:
            rows = table[table.setup == setup]
            pairs = [
                (of[of.part == "test"][score].to_numpy(), of[of.part == part][score].to_numpy())
                for _, of in rows.groupby("seed")
            ]
            curves.append(np.mean([roc(*pair, GRID) for pair in pairs], axis=0))
        lines = [[f"{g:.2f}", *(f"{curve[i]:.6f}" for curve in curves)] for i, g in enumerate(GRID)]
    return csv_text(["fpr", *setups], lines)


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


def read_histories(runs: Iterable[ModelRun]) -> str:
    """The runs' history.csv files under one header with setup and seed; columns that one lacks stay empty."""
    import pandas as pd

    found = []
    for run in runs:
        path = run.folder / "history.csv"
        if os.path.lexists(path):
            history = read_table(path, ("step",))
            if not (history.step.is_monotonic_increasing and history.step.is_unique):
                raise UserError(f"{path} tells of a step twice, or not in order: dvc checkout restores it")
            history.insert(0, "setup", run.setup)
            history.insert(1, "seed", run.seed)
            found.append(history)
    return pd.concat(found).to_csv(index=False, lineterminator="\n") if found else ""
