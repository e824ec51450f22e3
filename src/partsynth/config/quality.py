"""Section quality: when an image is flagged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from partsynth.config.base import Count, Fraction, Section, unless

TOLERANCE = 10.0  # class standard deviations; what the calibration by views allowed on the demo's renders, in effect


class Quality(Section):
    """Which images drifted too far, or are no images."""

    neighbours: Count = 3
    """Nearest real parts averaged in the distance to a class."""
    calibration: Literal["images", "views", "pictures"] = "images"
    """What drift is calibrated on: real validation images as they are, each without a training group drawn as an edit's
    source is. A real image of a class then lies anywhere between 0 and 1, equally often. Earlier projects' ways leave
    the nearest group out, and are lenient: views = each through one of training's views, pictures = as it is."""
    accept_percentile: Fraction = 0.95
    """Drift beyond this percentile of the real validation images' is flagged: of real images, the rest."""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Wanted wear, light and blur: all thresholds on drift (this one, select's bands, sets' targets) lie this many
    class standard deviations farther out than the percentiles of real images say; null = 10, and 0 with the
    calibrations views and pictures."""
    all_classes: Annotated[bool, unless(False)] = False
    """Measure drift from every class too: the least of them, and its percentile, for select's rule nobody."""
    all_classes_tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False), unless(0.0)] = 0.0
    """As tolerance, for the least drift of all classes: its percentile is that of the drift less this many standard
    deviations. 0 = a real image of any class lies anywhere between 0 and 1, equally often."""
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

    @property
    def tolerated(self) -> float:
        """The tolerance, in class standard deviations."""
        if self.tolerance is not None:
            return self.tolerance
        return TOLERANCE if self.calibration == "images" else 0.0
