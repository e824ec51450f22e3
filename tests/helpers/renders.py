"""A rendering of half a second; here and not in a test, since a spawned process imports it by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from partsynth.rendering import catalog, scene
from partsynth.rendering.wear import Wear


def take(begun: Path | None = None) -> np.ndarray:
    """Half a second of rendering; ``begun`` is made when it starts."""
    shot = catalog.draw_shots(catalog.NARROW, np.random.default_rng(0))["cam0"]
    if begun is not None:
        begun.touch()
    features = {"sides": 32, "holes": 4, "hub": 1}
    return scene.photograph("flange", features, 1, Wear("used", 0.2, "steel", 5), shot, 72, 256)[0]
