"""What a study searches, on which data: no optimiser here, values in and out.

Of the images only training and validation parts are read, OOD ones too; the test parts are never opened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partsynth.config.params import Params
from partsynth.config.training import SelectSetup, Train
from partsynth.errors import UserError
from partsynth.lineage.digests import path_md5
from partsynth.lineage.graph import Stages, covers, digest_of, read_lock
from partsynth.lineage.objects import Objects
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import RealRecord, SelectedRecord
from partsynth.store.layout import AUGMENTED, MANIFEST, OOD, QUALITY, REAL, REVIEW, SELECTED

BANDED = ("band", "nobody")  # rules of select whose band a study draws


@dataclass(frozen=True)
class Band:
    """What the training table of a setup whose rule takes a band is made from; paths relative to the root."""

    onto: str
    manifest: str
    verdicts: str
    review: str | None = None


@dataclass(frozen=True)
class Data:
    """The data of a study and what its setup consists of. Paths are relative to the root."""

    table: str
    rows: tuple[SelectedRecord, ...]
    validation: tuple[RealRecord, ...]
    near: tuple[RealRecord, ...]  # OOD *validation* images
    far: tuple[RealRecord, ...]
    digests: dict[str, str]
    sets: tuple[tuple[str, str], ...]  # augmentation sets the setup may use, each with its role
    band: Band | None  # of a setup whose rule takes one

    @property
    def has_synthetic(self) -> bool:
        return any(role == "positive" for _, role in self.sets)

    @property
    def has_negatives(self) -> bool:
        return any(role == "negative" for _, role in self.sets)


def read_data(params: Params, root: Path) -> Data:
    """Tables of the study's setup, as DVC recorded them.

    Raises
    ------
    UserError
        where the pipeline has not run, the workspace differs from dvc.lock, or there is nothing to validate on.
    """
    setup = params.study.setup
    if setup not in params.select:
        raise UserError(f"study.setup is {setup!r}; select has {', '.join(params.select) or 'none'}")
    lock = read_lock(root)
    table = f"{SELECTED}/{setup}.csv"
    digests, faults = {}, []
    for path in (table, f"{REAL}/{MANIFEST}", f"{OOD}/{MANIFEST}"):
        now, locked = path_md5(root / path), _locked(root, lock, path)
        if now is None:
            faults.append(f"{path} is missing")
        elif locked is not None and now != locked:
            faults.append(f"{path} is not what dvc.lock records")
        digests[path] = now or ""
    if faults:
        raise UserError(f"a study of {setup} needs finished data (dvc repro):\n  " + "\n  ".join(faults))
    rows = tuple(read_manifest(root / table, SelectedRecord))
    classes = {row.class_name for row in rows}
    real = read_manifest(root / REAL / MANIFEST, RealRecord)
    validation = tuple(r for r in real if r.split == "val" and r.role == "target" and r.class_name in classes)
    if not validation:
        raise UserError(f"{REAL}/{MANIFEST} has no validation images of {setup}'s classes: a study needs them")
    ood = [r for r in read_manifest(root / OOD / MANIFEST, RealRecord) if r.split == "val"]
    near = tuple(r for r in ood if r.role == "near_ood")
    if params.study.mode == "pareto" and not near:
        raise UserError("study.mode pareto needs near-OOD validation images: set ood.holdout_classes, or constrained")
    sets = {(row.origin, row.role) for row in rows if row.origin != "real"}
    band = _band(lock, setup) if params.select[setup].rule in BANDED else None
    if band is not None:  # the present band may take none of it
        sets.add((Path(band.manifest).parent.name, params.select[setup].role))
    far = tuple(r for r in ood if r.role == "far_ood")
    return Data(table, rows, validation, near, far, digests, tuple(sorted(sets)), band)


def _band(lock: Stages, setup: str) -> Band | None:
    """What the setup's table was made from; None where it is not known."""
    deps = [dep["path"] for dep in lock.get(f"select@{setup}", {}).get("deps", [])]
    found = [next((dep for dep in deps if covers(top, dep)), None) for top in (SELECTED, AUGMENTED, QUALITY, REVIEW)]
    onto, manifest, verdicts, review = found
    return Band(onto, manifest, verdicts, review) if onto and manifest and verdicts else None


def _locked(root: Path, lock: Stages, path: str) -> str | None:
    """The md5 that dvc.lock has for a file: named itself, or in the listing of the folder that holds it."""
    if (named := digest_of(lock, path)) is not None:
        return named
    for out in (out for stage in lock.values() for out in stage.get("outs", [])):
        if covers(out["path"], path) and "md5" in out:
            with Objects(root) as objects:
                return objects.listing(out["md5"]).get(path[len(out["path"]) + 1 :])
    return None


def starting_point(params: Params) -> Train:
    """Section train as the study's setup has it."""
    return params.select[params.study.setup].training(params.train)


def settings(params: Params, values: dict[str, float]) -> tuple[Train, SelectSetup]:
    """The parameters of a trial that drew ``values``: what its setup has no use for keeps its value."""
    train, select = starting_point(params), params.select[params.study.setup]
    chosen: dict[str, Any] = dict(values)
    if "negatives_per_anchor" in chosen:
        chosen["negatives"] = round(chosen.pop("negatives_per_anchor") * train.anchors)
    low, width, limits = chosen.pop("band_low", None), chosen.pop("band_width", None), params.study.space.band
    if low is not None and width is not None and limits is not None:
        top = limits[1]
        select = select.model_copy(update={"band": (round(low, 6), round(low + width * (top - low), 6))})
    return train.model_copy(update=chosen), select


def ranges(params: Params, data: Data) -> dict[str, tuple[float, float, bool]]:
    """Name -> (low, high, logarithmic), widened to hold the baselines' values."""
    space, train = params.study.space, starting_point(params)
    wanted: dict[str, tuple[tuple[float, float] | None, bool, float]] = {
        "temperature": (space.temperature, True, train.temperature),
        "learning_rate": (space.learning_rate, True, train.learning_rate),
    }
    if data.has_synthetic:
        wanted["synthetic_share"] = (space.synthetic_share, False, train.synthetic_share)
    if data.has_negatives:
        wanted["negatives_per_anchor"] = (space.negatives_per_anchor, False, train.negatives / train.anchors)
        wanted["negative_weight"] = (space.negative_weight, True, train.negative_weight)
    found = {}
    for name, (limits, log, value) in wanted.items():
        if limits is not None:
            low = min(limits[0], value) if value > 0 or not log else limits[0]
            found[name] = (low, max(limits[1], value), log)
    if data.band is not None and space.band is not None:
        found["band_low"] = (min(space.band[0], params.select[params.study.setup].band[0]), space.band[1] - 1e-3, False)
        found["band_width"] = (0.05, 1.0, False)  # share of what lies between the lower limit and the space's end
    return found


def baselines(params: Params, data: Data) -> list[dict[str, float]]:
    """The mixes of the three setups at the present parameters: real alone, with positives, with negatives too."""
    train, limits = starting_point(params), ranges(params, data)
    full = {
        "temperature": train.temperature,
        "learning_rate": train.learning_rate,
        "synthetic_share": train.synthetic_share,
        "negatives_per_anchor": train.negatives / train.anchors,
        "negative_weight": train.negative_weight,
    }
    if "band_low" in limits and params.study.space.band is not None:
        low, high = params.select[params.study.setup].band
        top = params.study.space.band[1]
        full["band_low"] = min(low, limits["band_low"][1])
        full["band_width"] = min(max((high - low) / max(top - low, 1e-9), 0.05), 1.0)
    points: list[dict[str, float]] = []
    for mix in ({"synthetic_share": 0.0, "negatives_per_anchor": 0.0}, {"negatives_per_anchor": 0.0}, {}):
        point = {name: value for name, value in (full | mix).items() if name in limits}
        inside = all(limits[name][0] <= value <= limits[name][1] for name, value in point.items())
        if inside and point not in points:
            points.append(point)
    return points


def anchor_drift(rows: tuple[SelectedRecord, ...], train: Train) -> float:
    """Mean drift percentile of a step's anchors in [0, 1], real images counting 0; nan where nothing measured it."""
    measured = [
        r.percentile for r in rows if r.role == "positive" and r.origin != "real" and r.percentile == r.percentile
    ]
    return train.synthetic_share * sum(measured) / len(measured) if measured else math.nan
