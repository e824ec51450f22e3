"""The real parts as the yardstick of drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from partsynth.core.drift import calibration as drift_calibration
from partsynth.core.drift.calibration import Calibration
from partsynth.core.drift.distances import Bank
from partsynth.errors import UserError
from partsynth.quality.features import Encoder, Measured, measure, seen_in_views
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import AugmentedRecord, RealRecord, Record


def real_parts(real: Path) -> list[RealRecord]:
    """The training and validation pictures; raises UserError where there is no validation picture."""
    rows = [r for r in read_manifest(real / "manifest.csv", RealRecord) if r.split in ("train", "val")]
    if not any(r.split == "val" for r in rows):
        raise UserError(f"{real / 'manifest.csv'} has no validation pictures: drift cannot be calibrated")
    return rows


def measure_real(
    rows: Sequence[RealRecord], calibration: str, root: Path, embed: Encoder
) -> tuple[Measured, np.ndarray | None]:
    """What was measured of the real pictures and, for ``calibration: views``, the validation pictures' views (n, D)."""
    size = embed.reference.batch_size
    measured = measure(rows, root, embed, size, embed.folder / "real.safetensors")
    if calibration != "views":
        return measured, None
    return measured, seen_in_views([r for r in rows if r.split == "val"], root, embed, size, embed.folder)


def calibrated(
    rows: Sequence[RealRecord], features: np.ndarray, neighbours: int, views: np.ndarray | None
) -> tuple[Bank, Calibration]:
    """The real pictures (N, D) as the yardstick of drift.

    ``views`` (n, D), where given, are the validation pictures' features through training's views: they calibrate drift,
    so that what a classifier is taught to overlook is no drift. Which class a picture looks like is calibrated on the
    pictures as they are.
    """
    training = [i for i, r in enumerate(rows) if r.split == "train"]
    held_out = [i for i, r in enumerate(rows) if r.split == "val"]
    names, classes, groups = columns(rows)
    bank = Bank(features[training], names[training], classes[training], groups[training])
    calibration = drift_calibration.calibrate(bank, features[held_out], classes[held_out], neighbours)
    if views is not None:
        tolerant = drift_calibration.calibrate(bank, views, classes[held_out], neighbours)
        calibration = replace(calibration, drift=tolerant.drift)
    return bank, calibration


def columns(rows: Sequence[Record]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sources, classes and groups (N,) each."""
    return tuple(np.array(c) for c in zip(*((source_of(r), r.class_name, group_of(r)) for r in rows), strict=True))


def source_of(row: Record) -> str:
    return row.source if isinstance(row, AugmentedRecord) else row.path


def group_of(row: Record) -> str:
    return row.source_group if isinstance(row, AugmentedRecord) else row.group
