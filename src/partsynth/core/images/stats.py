"""What an image is like as an image: sharpness, brightness, contrast, exposure, likeness to its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from PIL import Image

QUANTILES = 16  # points of a luminance distribution
THUMBNAIL = 64  # pixels per side at which images are compared


@dataclass(frozen=True)
class ImageStats:
    """Measures of N images, one row each. Luminance (Rec. 601, as coded) is in [0, 1]."""

    sharpness: np.ndarray  # (N,) variance of the Laplacian of luminance (Pech-Pacheco et al. 2000)
    brightness: np.ndarray  # (N,) mean luminance
    contrast: np.ndarray  # (N,) standard deviation of luminance
    exposure: np.ndarray  # (N, QUANTILES) quantiles of luminance, ascending
    thumbnails: np.ndarray  # (N, THUMBNAIL, THUMBNAIL, 3) uint8

    def take(self, rows: Sequence[int]) -> ImageStats:
        """The rows alone, in their order."""
        return ImageStats(*(getattr(self, name)[rows] for name in NAMES))


NAMES = tuple(field.name for field in fields(ImageStats))
Row = tuple[float, float, float, np.ndarray, np.ndarray]  # of ImageStats


def measure(image: Image.Image) -> Row:
    """One row of ImageStats for an RGB image of at least 3 x 3 pixels."""
    luminance = np.asarray(image.convert("L"), np.float32) / 255  # (H, W)
    centre = luminance[1:-1, 1:-1]
    around = luminance[:-2, 1:-1] + luminance[2:, 1:-1] + luminance[1:-1, :-2] + luminance[1:-1, 2:]
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return (
        float((around - 4 * centre).var()),
        float(luminance.mean()),
        float(luminance.std()),
        np.quantile(luminance, levels).astype(np.float32),
        np.asarray(image.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)),
    )


def stacked(rows: Sequence[Row]) -> ImageStats:
    """The rows as one table; also of no rows."""
    if not rows:
        none = np.zeros(0)
        return ImageStats(none, none, none, np.zeros((0, QUANTILES)), np.zeros((0, THUMBNAIL, THUMBNAIL, 3), np.uint8))
    return ImageStats(*(np.stack(column) for column in zip(*rows, strict=True)))


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation in [-1, 1] of thumbnails (N, S, S, 3), pair by pair: (N,); 0 where one of them is flat."""
    x, y = (t.reshape(len(t), -1).astype(np.float64) for t in (a, b))  # (N, 3 S S)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    norm = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.where(norm > 0, (x * y).sum(1) / np.maximum(norm, 1e-12), 0.0)


def inversion(exposure: np.ndarray, real: np.ndarray) -> np.ndarray:
    """How much nearer the negatives are to ``real`` (N, QUANTILES) than the images (N, QUANTILES) are: (N,).

    In Wasserstein-1 distance of luminance; positive = more like the real images upside down.
    """
    upright = np.abs(exposure - real).mean(1)
    negative = np.abs(1 - exposure[:, ::-1] - real).mean(1)
    return upright - negative


def from_median(values: np.ndarray, classes: np.ndarray, real: np.ndarray, real_classes: np.ndarray) -> np.ndarray:
    """Values (N,) minus the median of the real ones (M,) of their class: what differs between classes drops out."""
    kinds, index = np.unique(real_classes, return_inverse=True)
    medians = np.array([np.median(real[index == c]) for c in range(len(kinds))])
    return values - medians[np.searchsorted(kinds, classes)]
