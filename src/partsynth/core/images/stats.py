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
    similarity: np.ndarray  # (N,) in [-1, 1], to the image's source; nan where there is none

    def take(self, rows: Sequence[int]) -> ImageStats:
        """The rows alone, in their order."""
        return ImageStats(*(getattr(self, name)[rows] for name in NAMES))


NAMES = tuple(field.name for field in fields(ImageStats))
Row = tuple[float, float, float, np.ndarray, float]  # of ImageStats


def measure(image: Image.Image, source: np.ndarray | None = None) -> Row:
    """One row of ImageStats for an RGB image of at least 3 x 3 pixels; ``source``: the ``thumbnail`` of its source."""
    luminance = np.asarray(image.convert("L"), np.float32) / 255  # (H, W)
    centre = luminance[1:-1, 1:-1]
    around = luminance[:-2, 1:-1] + luminance[2:, 1:-1] + luminance[1:-1, :-2] + luminance[1:-1, 2:]
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return (
        float((around - 4 * centre).var()),
        float(luminance.mean()),
        float(luminance.std()),
        np.quantile(luminance, levels).astype(np.float32),
        float("nan") if source is None else similarity(thumbnail(image), source),
    )


def thumbnail(image: Image.Image) -> np.ndarray:
    """An image as it is compared: (THUMBNAIL, THUMBNAIL, 3) uint8."""
    return np.asarray(image.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def stacked(rows: Sequence[Row]) -> ImageStats:
    """The rows as one table; also of no rows."""
    if not rows:
        none = np.zeros(0)
        return ImageStats(none, none, none, np.zeros((0, QUANTILES)), none)
    return ImageStats(*(np.stack(column) for column in zip(*rows, strict=True)))


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation in [-1, 1] of two thumbnails; 0 where one of them is flat."""
    x, y = (t.ravel().astype(np.float64) for t in (a, b))  # (3 S S,)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float((x * y).sum() / norm) if norm > 0 else 0.0


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
