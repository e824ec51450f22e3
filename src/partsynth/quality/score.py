"""Scores of generated images beside the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from partsynth.config.quality import Quality
from partsynth.core.drift.calibration import conformal_percentiles, drift_scores, least_scores, strangeness_scores
from partsynth.core.drift.distances import class_distances, nearest_and_margin
from partsynth.core.images import stats
from partsynth.core.images.stats import ImageStats
from partsynth.quality.measure import Measured
from partsynth.quality.real_parts import calibrated, columns, further_columns
from partsynth.records.rows import ImageRecord, RealRecord

TAIL = 0.05  # of the real images' sharpness at either end
EXTREME = 0.01  # of their brightness and exposure
NEGATIVE = -0.8  # correlation with its own source below which an image is a negative
INVERSION_MARGIN = 0.05  # luminance: parts on light and on dark ground differ that much by themselves
DIGITS = 6  # decimals kept of a measure: the rest differs between machines


@dataclass(frozen=True)
class Look:
    """What N images look like beside the real ones of their class."""

    sharpness: np.ndarray  # (N,) logarithm, from the median of the class's real images
    brightness: np.ndarray  # (N,) from that median
    inversion: np.ndarray  # (N,) > 0 where the negative is more like the class's real images


@dataclass(frozen=True)
class Scores:
    """Where N images stand among the real ones."""

    drift: np.ndarray  # (N,) class standard deviations
    percentile: np.ndarray  # (N,) in (0, 1], of drift
    tolerated: np.ndarray  # (N,) in (0, 1], of drift less the tolerance
    strangeness: np.ndarray  # (N,) in (0, 1], percentile of how much nearer another class is
    least: np.ndarray  # (N,) of the drifts from all classes
    nobody: np.ndarray  # (N,) in (0, 1], its percentile, less its tolerance
    calibration_n: int
    nearest: np.ndarray  # (N,) class names
    margin: np.ndarray  # (N,)
    similarity: np.ndarray  # (N,) to the own source; nan where there is none
    look: Look


@dataclass(frozen=True)
class Limits:
    """Bounds of what real images look like, from training and validation images."""

    sharpness: tuple[float, float]
    brightness: tuple[float, float]
    inversion: float


def score(
    rows: Sequence[ImageRecord],
    measured: Measured,
    real_rows: Sequence[RealRecord],
    real_measured: Measured,
    params: Quality,
    views: np.ndarray | None = None,
) -> tuple[Scores, Limits]:
    """Place every image among the real ones; real validation images calibrate the percentiles.

    Parameters
    ----------
    rows, measured : the images to score
    real_rows, real_measured : training and validation images
    views : (n, D) features of the validation images through training's views, for ``calibration: views`` (see
        ``real_parts.calibrated``); None = the images as they are
    """
    _, real_classes, _ = columns(real_rows)
    bank, calibration = calibrated(real_rows, real_measured.features, params, views)
    limits = _limits(_look(real_measured.stats, real_classes, real_measured.stats, real_classes), params)
    if not rows:
        none = np.zeros(0)
        look = Look(none, none, none)
        return Scores(none, none, none, none, none, none, len(calibration.drift), none, none, none, look), limits

    sources, classes, groups = columns(rows)
    distances = class_distances(
        measured.features, sources, groups, bank, params.neighbours, further_columns(rows)
    )  # (N, C)
    drifts = drift_scores(distances, classes, bank.kinds, calibration)
    strangeness = strangeness_scores(distances, classes, bank.kinds, calibration)
    least = least_scores(distances, calibration)
    nearest, margin = nearest_and_margin(distances, classes, bank.kinds)
    return Scores(
        drift=drifts,
        percentile=conformal_percentiles(drifts, calibration.drift),
        tolerated=conformal_percentiles(drifts - params.tolerated, calibration.drift),
        strangeness=conformal_percentiles(strangeness, calibration.strangeness),
        least=least,
        nobody=conformal_percentiles(least - params.all_classes_tolerance, calibration.least),
        calibration_n=len(calibration.drift),
        nearest=nearest,
        margin=margin,
        similarity=measured.stats.similarity,
        look=_look(measured.stats, classes, real_measured.stats, real_classes),
    ), limits


def _look(images: ImageStats, classes: np.ndarray, real: ImageStats, real_classes: np.ndarray) -> Look:
    logs = np.log(images.sharpness + 1e-8), np.log(real.sharpness + 1e-8)
    kinds, index = np.unique(real_classes, return_inverse=True)
    typical = np.stack([real.exposure[index == c].mean(0) for c in range(len(kinds))])  # (C, QUANTILES)
    return Look(
        sharpness=stats.from_median(logs[0], classes, logs[1], real_classes),
        brightness=stats.from_median(images.brightness, classes, real.brightness, real_classes),
        inversion=stats.inversion(images.exposure, typical[np.searchsorted(kinds, classes)]),
    )


def _limits(real: Look, params: Quality) -> Limits:
    return Limits(
        _widened(real.sharpness, TAIL, -np.log(max(params.sharpness_ratio, 1e-12))),
        _widened(real.brightness, EXTREME, params.brightness_margin),
        max(0.0, float(np.quantile(real.inversion, 1 - EXTREME))) + INVERSION_MARGIN,
    )


def _widened(values: np.ndarray, tail: float, margin: float) -> tuple[float, float]:
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low - margin), float(high + margin)


def rounded(value: float) -> float:
    return round(float(value), DIGITS)
