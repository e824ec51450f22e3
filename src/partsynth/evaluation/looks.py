"""What a model looks at in one test image, as the table among the plots' data has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from partsynth.store.files import csv_text

TABLE = "saliency.csv"


class Look(NamedTuple):
    """One test image as one model sees it."""

    setup: str
    seed: int
    path: str
    class_name: str
    predicted: str
    drawn: int  # 1 = drawn by lot, and counted; 0 = shown alone, as a mistake that the draw missed
    on_part: float | str  # share of the saliency on the part, in [0, 1]; empty where there is no mask or no saliency
    area: float | str  # the part's share of the image
    side: int  # of the map
    levels: str  # side x side of them, 0 to 255 of the map's largest, rows from the top, with spaces between


def saliency_csv(found: Iterable[Look]) -> str:
    """The table's text."""
    return csv_text(Look._fields, found)


def levels_of(heat: np.ndarray) -> str:
    """A map (side, side), at least 0, as ``Look.levels``."""
    most = heat.max()
    return " ".join(map(str, (heat / most * 255 if most > 0 else heat).round().astype(int).ravel()))


def heat_of(levels: str, side: int) -> np.ndarray:
    """(side, side) in [0, 1] of ``Look.levels``."""
    return np.array(levels.split(), dtype=float).reshape(side, side) / 255
