"""Scores of generated images beside the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partsynth.config.generation import Quality
from partsynth.core.drift.calibration import conformal_percentiles, drift_scores, strangeness_scores
from partsynth.core.drift.distances import class_distances, nearest_and_margin
from partsynth.core.images import stats
from partsynth.core.images.stats import Looks
from partsynth.quality.features import Measured
from partsynth.quality.real_parts import calibrated, columns
from partsynth.records.rows import AugmentedRecord, RealRecord, Record

TAIL = 0.05  # of the real pictures' sharpness at either end
EXTREME = 0.01  # of their brightness and exposure
NEGATIVE = -0.8  # correlation with its own source below which a picture is a negative
INVERSION_MARGIN = 0.05  # luminance: parts on light and on dark ground differ that much by themselves
DIGITS = 6  # decimals kept of a measure: the rest differs between machines


@dataclass(frozen=True)
class Scores:
    """What N pictures are like beside the real ones."""

    drift: np.ndarray  # (N,) class standard deviations
    percentile: np.ndarray  # (N,) in (0, 1], of drift
    strangeness: np.ndarray  # (N,) in (0, 1], percentile of how much nearer another class is
    calibration_n: int
    nearest: np.ndarray  # (N,) class names
    margin: np.ndarray  # (N,)
    similarity: np.ndarray  # (N,) to the own source; nan where there is none
    sharpness: np.ndarray  # (N,) logarithm, from the median of the class's real pictures
    brightness: np.ndarray  # (N,) from that median
    inversion: np.ndarray  # (N,) > 0 where the negative is more like the class's real pictures


@dataclass(frozen=True)
class Limits:
    """Bounds of what real pictures look like, from training and validation pictures."""

    sharpness: tuple[float, float]
    brightness: tuple[float, float]
    inversion: float


def score(
    rows: Sequence[Record],
    measured: Measured,
    real_rows: Sequence[RealRecord],
    real_measured: Measured,
    params: Quality,
    views: np.ndarray | None = None,
) -> tuple[Scores, Limits]:
    """Place every picture among the real ones; real validation pictures calibrate the percentiles.

    ``views`` (n, D), where given, are the validation pictures' features through training's views: they calibrate drift,
    so that what a classifier is taught to overlook is no drift. Which class a picture looks like is calibrated on the
    pictures as they are.
    """
    names, classes, _ = columns(real_rows)
    bank, calibration = calibrated(real_rows, real_measured.features, params.neighbours, views)
    real_looks = real_measured.looks
    real_sharpness, real_brightness, real_inversion = _beside_class(real_looks, classes, real_measured, classes)
    limits = Limits(
        _widened(real_sharpness, TAIL, -np.log(max(params.sharpness_ratio, 1e-12))),
        _widened(real_brightness, EXTREME, params.brightness_margin),
        max(0.0, float(np.quantile(real_inversion, 1 - EXTREME))) + INVERSION_MARGIN,
    )
    if not rows:
        nothing = np.zeros(0)
        return Scores(nothing, nothing, nothing, len(calibration.drift), *[nothing] * 6), limits

    sources, own_classes, own_groups = columns(rows)
    distances = class_distances(measured.features, sources, own_groups, bank, params.neighbours)  # (Q, C)
    drifts = drift_scores(distances, own_classes, bank.kinds, calibration)
    strangeness = strangeness_scores(distances, own_classes, bank.kinds, calibration)
    nearest, margin = nearest_and_margin(distances, own_classes, bank.kinds)
    sharpness, brightness, inversion = _beside_class(measured.looks, own_classes, real_measured, classes)
    position = {name: i for i, name in enumerate(names)}
    similarity = stats.similarity(
        measured.looks.thumbnails, real_measured.looks.thumbnails[[position[s] for s in sources]]
    )
    augmented = np.array([isinstance(r, AugmentedRecord) for r in rows])
    return (
        Scores(
            drifts,
            conformal_percentiles(drifts, calibration.drift),
            conformal_percentiles(strangeness, calibration.strangeness),
            len(calibration.drift),
            nearest,
            margin,
            np.where(augmented, similarity, np.nan),
            sharpness,
            brightness,
            inversion,
        ),
        limits,
    )


def _beside_class(
    looks: Looks, classes: np.ndarray, real: Measured, real_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sharpness = stats.from_median(
        np.log(looks.sharpness + 1e-8), classes, np.log(real.looks.sharpness + 1e-8), real_classes
    )
    brightness = stats.from_median(looks.brightness, classes, real.looks.brightness, real_classes)
    kinds, index = np.unique(real_classes, return_inverse=True)
    typical = np.stack([real.looks.exposure[index == c].mean(0) for c in range(len(kinds))])  # (C, QUANTILES)
    inversion = stats.inversion(looks.exposure, typical[np.searchsorted(kinds, classes)])
    return sharpness, brightness, inversion


def _widened(values: np.ndarray, tail: float, margin: float) -> tuple[float, float]:
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low - margin), float(high + margin)


def rounded(value: float) -> float:
    return round(float(value), DIGITS)
