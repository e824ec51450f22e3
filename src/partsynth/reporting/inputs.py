"""What the report is made of: the summary, the manifests behind the images it shows, and data of plots."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partsynth.config.evaluation import Report
from partsynth.errors import UserError
from partsynth.evaluation.results import Data, Summary, read_summary
from partsynth.records.adapted import Figures, read_adaptation
from partsynth.records.augmented import read_augmented
from partsynth.records.card import DataCard, read_card
from partsynth.records.manifest import read_manifest
from partsynth.records.review import ReviewRecord, read_review
from partsynth.records.rows import AugmentedRecord, RealRecord, VerdictRecord
from partsynth.store import reading
from partsynth.store.seal import refuse_changed

if TYPE_CHECKING:
    import pandas as pd

FIRST = ("id", "near_ood", "far_ood")  # the sets that stand first, from the mildest on


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Where the report's inputs lie, and ``out``, the page."""

    params: Report
    root: Path  # manifests' paths are relative to it
    metrics: Path  # written by evaluate, as are the plots' data
    plots: Path
    quality: Path  # the quality stage's pages, linked where they exist
    augmented: Path  # folders of manifests and images
    real: Path
    ood: Path
    verdicts: Path  # the quality stage's tables
    adapted: Path | None = None  # stage adapt's product; None in a project from before that stage
    studies: Path  # one JSON file of `partsynth study show` per study; there may be none
    review: Path | None = None  # tables of people's decisions
    card: Path | None = None  # the data card; None in a project from before it
    out: Path


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What sections take their values from."""

    inputs: Inputs
    summary: Summary
    data: Data
    real: list[RealRecord]
    ood: list[RealRecord]
    sets: dict[str, list[AugmentedRecord]]
    verdicts: dict[str, dict[str, VerdictRecord]]  # set -> image's path -> verdict
    studies: list[dict[str, Any]]
    reviews: dict[str, list[ReviewRecord]]  # set -> people's decisions; sets without any are left out
    card: DataCard | None = None  # what people know of the photographs
    adaptation: Figures | None = None  # of the base model, where it was tuned

    def plot(self, name: str, *columns: str) -> pd.DataFrame:
        """Data of one plot, as the evaluate stage wrote it; ``columns`` of numbers must be there."""
        return read_table(self.inputs.plots / name, columns)


def read_contents(inputs: Inputs) -> Contents:
    """Everything but the images.

    Raises
    ------
    UserError
        where a file is missing or of another version.
    """
    path = inputs.metrics / "summary.json"
    summary = read_summary(path)
    if summary.data is None:
        raise UserError(f"{path} does not say on which data its figures are: dvc repro evaluate")
    augmented, ood = inputs.augmented, inputs.ood / "manifest.csv"
    sets = {p.parent.name: read_augmented(p) for p in sorted(augmented.glob("*/manifest.csv"))}
    tables = sorted(inputs.verdicts.glob("*.csv"))
    return Contents(
        inputs=inputs,
        summary=summary,
        data=summary.data,
        real=read_manifest(inputs.real / "manifest.csv", RealRecord),
        ood=read_manifest(ood, RealRecord) if os.path.lexists(ood) else [],
        sets={name: sets[name] for name in [*(n for n in FIRST if n in sets), *(n for n in sets if n not in FIRST)]},
        verdicts={p.stem: _verdicts(p) for p in tables},
        adaptation=read_adaptation(inputs.adapted / "manifest.json") if inputs.adapted else None,
        studies=[_study(path) for path in sorted(inputs.studies.glob("*.json"))],
        reviews=_reviews(inputs.review),
        card=read_card(inputs.card) if inputs.card else None,
    )


def _verdicts(path: Path) -> dict[str, VerdictRecord]:
    rows = read_manifest(path, VerdictRecord)
    if other := next((row.set_name for row in rows if row.set_name != path.stem), None):
        raise UserError(f"{path} holds verdicts on the set {other}: dvc checkout, or dvc repro quality@{path.stem}")
    return {row.path: row for row in rows}


def _study(path: Path) -> dict[str, Any]:
    found = reading.read_object(path)
    refuse_changed(path, found, "`partsynth study show`")
    return found


def _reviews(folder: Path | None) -> dict[str, list[ReviewRecord]]:
    read = {} if folder is None else {path.stem: read_review(path) for path in sorted(folder.glob("*.csv"))}
    return {name: rows for name, rows in read.items() if rows}


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    words = dict.fromkeys(["setup", "class_name", "actual", "predicted"], str)
    return reading.read_table(path, columns, dtype=words, keep_default_na=True)
