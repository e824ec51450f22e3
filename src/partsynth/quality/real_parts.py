"""The real parts as the yardstick of drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from partsynth.config.quality import Quality
from partsynth.core.drift import calibration as drift_calibration
from partsynth.core.drift import leave_out
from partsynth.core.drift.calibration import Calibration
from partsynth.core.drift.distances import Bank
from partsynth.errors import UserError
from partsynth.quality.features import Encoder
from partsynth.quality.measure import Measured, measure
from partsynth.quality.views import seen_in_views
from partsynth.records.manifest import read_manifest
from partsynth.records.rows import ImageRecord, RealRecord
from partsynth.store.layout import MANIFEST


def real_parts(real: Path) -> list[RealRecord]:
    """The training and validation images of the folder ``real``.

    Raises
    ------
    UserError
        where there is no validation image.
    """
    rows = [r for r in read_manifest(real / MANIFEST, RealRecord) if r.split in ("train", "val")]
    if not any(r.split == "val" for r in rows):
        raise UserError(f"{real / MANIFEST} has no validation images: drift cannot be calibrated")
    return rows


def measure_real(
    rows: Sequence[RealRecord], params: Quality, root: Path, embed: Encoder
) -> tuple[Measured, np.ndarray | None]:
    """What was measured of the real images and, for ``calibration: views``, the validation images' views (n, D)."""
    size = embed.reference.batch_size
    measured = measure(rows, root, embed, size, embed.folder / "real.safetensors")
    if params.calibration != "views":
        return measured, None
    return measured, seen_in_views([r for r in rows if r.split == "val"], root, embed, size, embed.folder)


def calibrated(
    rows: Sequence[RealRecord], features: np.ndarray, params: Quality, views: np.ndarray | None
) -> tuple[Bank, Calibration]:
    """The real images' ``features`` (N, D) as the yardstick of drift.

    Each validation image is measured without a training group of its class, as an edit is without its source's: one
    drawn by the image's path, or, with ``calibration: views`` and ``pictures``, the nearest. ``views`` (n, D), where
    given, are the validation images' features through training's views, and calibrate drift; which class an image looks
    like is calibrated on the images as they are.
    """
    training = [i for i, r in enumerate(rows) if r.split == "train"]
    held_out = [i for i, r in enumerate(rows) if r.split == "val"]
    names, classes, groups = columns(rows)
    bank = Bank(features[training], names[training], classes[training], groups[training])

    def calibration_of(seen: np.ndarray) -> Calibration:
        if params.calibration == "images":
            left_out = leave_out.drawn(names[held_out], classes[held_out], bank)
        else:
            left_out = leave_out.nearest(seen, classes[held_out], bank)
        return drift_calibration.calibrate(bank, seen, classes[held_out], params.neighbours, left_out)

    calibration = calibration_of(features[held_out])
    if views is not None:
        seen = calibration_of(views)
        calibration = replace(calibration, drift=seen.drift, least=seen.least)
    return bank, calibration


def further_columns(rows: Sequence[ImageRecord]) -> tuple[np.ndarray, np.ndarray] | None:
    """Paths and groups (N,) of the second real images that images hold something of, empty where an image has none;
    None where none of them has."""
    if not any(row.further_path for row in rows):
        return None
    return np.array([row.further_path for row in rows]), np.array([row.further_group for row in rows])


def columns(rows: Sequence[ImageRecord]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths of the real images they go back to, classes, and those images' groups: (N,) each."""
    names, classes, groups = zip(*((r.origin_path, r.class_name, r.origin_group) for r in rows), strict=True)
    return np.array(names), np.array(classes), np.array(groups)
