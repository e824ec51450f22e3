"""sRGB and CIE L*a*b* (D65), and colours of one region matched to another's.

Formulas: IEC 61966-2-1 (sRGB), CIE 15:2004 (L*a*b*); the matching is Reinhard et al., Color Transfer between Images,
IEEE CG&A 21(5), 2001, eq. 10 and 11, in L*a*b* in place of its own opponent space.
"""

from __future__ import annotations

import numpy as np

# linear sRGB -> XYZ under D65, and that white
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = XYZ.sum(axis=1)
EDGE = 6 / 29  # where the cube root gives way to a line
SPREADS = (0.5, 2.0)  # of a ratio of spreads: a flat region has no contrast that could be stretched


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) in [0, 1] -> L* in [0, 100], a*, b* (..., 3)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ XYZ.T / WHITE
    f = np.where(ratio > EDGE**3, np.cbrt(ratio), ratio / (3 * EDGE**2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def to_rgb(lab: np.ndarray) -> np.ndarray:
    """L*a*b* (..., 3) -> sRGB (..., 3), clipped to [0, 1]."""
    lightness, a, b = np.moveaxis(lab, -1, 0)
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    ratio = np.where(f > EDGE, f**3, 3 * EDGE**2 * (f - 4 / 29))
    linear = np.clip((ratio * WHITE) @ np.linalg.inv(XYZ).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def recoloured(rgb: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Colours whose mean and spread in L*a*b* are moved from those of ``own`` to those of ``others``.

    Parameters
    ----------
    rgb : (..., 3) in [0, 1], all that is moved.
    own, others : (n, 3) and (m, 3) in [0, 1], each at least one. Spreads' ratios are kept within SPREADS.

    Returns
    -------
    (..., 3) in [0, 1]
    """
    before, after = to_lab(own), to_lab(others)
    spread = after.std(axis=0) / np.maximum(before.std(axis=0), 1e-6)
    return to_rgb((to_lab(rgb) - before.mean(axis=0)) * np.clip(spread, *SPREADS) + after.mean(axis=0))
