"""Section quality: when an image is flagged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from partsynth.config.base import Count, Fraction, Section


class Quality(Section):
    """Which images drifted too far, or are no images."""

    neighbours: Count = 3
    """Nearest real parts averaged in the distance to a class."""
    calibration: Literal["views", "pictures"] = "views"
    """What drift is calibrated on, real validation images: each through one of training's views, or as it is."""
    accept_percentile: Fraction = 0.95
    """Drift beyond this percentile of the real validation images' is flagged."""
    sharpness_ratio: Annotated[float, Field(ge=0)] = 0.25
    """Sharpness below this share of the real images' lower quantile is flagged."""
    brightness_margin: Annotated[float, Field(ge=0)] = 0.15
    """Brightness further than this outside the real images' range is flagged, on a scale of 0 to 1."""
    min_contrast: Annotated[float, Field(ge=0)] = 0.02
    """A smaller standard deviation of luminance is flagged, on a scale of 0 to 1."""
    copy_similarity: Fraction = 0.995
    """Correlation with its own source above which an image counts as a copy and is flagged."""
    on_flagged: Literal["warn", "drop", "fail"] = "drop"
    """What becomes of flagged images: they stay, they are left out, or the stage fails."""
    max_flagged: Fraction = 0.5
    """Share of a set that may be flagged before the Great Expectations suite fails."""
