"""A real image of a class that quality has not seen lies anywhere among the real ones, equally often.

Groups are dealt to training, validation and held-out images again and again: dealt at random they are exchangeable, so
that over the deals the held-out images' percentiles have to be uniform within their error, whatever the images are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.clouds import cloud
from helpers.rows import real_row
from PIL import Image

from partsynth.config.quality import Quality
from partsynth.core.drift.calibration import conformal_percentiles, drift_scores, strangeness_scores
from partsynth.core.drift.distances import class_distances
from partsynth.core.drift.reference import load
from partsynth.quality.real_parts import calibrated, columns
from partsynth.quality.views import in_views

ROOT = Path(__file__).parents[2]
COINS = Path("/work/shared/coins/station")
ERRORS = 3.3  # standard errors: one in a thousand by chance, and the seed is fixed
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


class Pool:
    """Real images, one row of features each."""

    def __init__(self, features: np.ndarray, classes: list[str], groups: list[str], views: np.ndarray | None = None):
        self.features, self.classes, self.groups, self.views = features, np.array(classes), np.array(groups), views

    def percentiles(self, kind: str, rng: np.random.Generator, score=drift_scores) -> tuple[np.ndarray, int]:
        """Of the held-out images of one deal, each scored as an edit of a training image drawn at random, and n."""
        split = np.empty(len(self.classes), dtype="<U5")
        for name in np.unique(self.classes):
            mine = rng.permutation(np.unique(self.groups[self.classes == name]))
            parts = np.array_split(mine, 3)
            for part, groups in zip(("train", "val", "test"), parts, strict=True):
                split[(self.classes == name) & np.isin(self.groups, groups)] = part
        known = np.flatnonzero(split != "test")
        rows = [real_row(f"{self.classes[i]}/{i}", str(split[i]), str(self.groups[i])) for i in known]
        rows = [r.model_copy(update={"class_name": str(self.classes[i])}) for r, i in zip(rows, known, strict=True)]
        views = None if kind != "views" else self.views[[i for i in known if split[i] == "val"]]
        bank, calibration = calibrated(rows, self.features[known], Quality(calibration=kind), views)
        held_out = np.flatnonzero(split == "test")
        names, _, groups = columns(rows)
        sources = [
            rng.choice([j for j, r in enumerate(rows) if r.split == "train" and r.class_name == c])
            for c in self.classes[held_out]
        ]
        distances = class_distances(self.features[held_out], names[sources], groups[sources], bank, 3)
        scores = score(distances, self.classes[held_out], bank.kinds, calibration)
        among = calibration.drift if score is drift_scores else calibration.strangeness
        return conformal_percentiles(scores, among), len(among)

    def mean_off(self, kind: str, deals: int) -> tuple[float, float]:
        """Mean percentile less that of a uniform one, and its standard error over the deals."""
        rng = np.random.default_rng(0)
        found = [self.percentiles(kind, rng) for _ in range(deals)]
        off = [p.mean() - (n / 2 + 1) / (n + 1) for p, n in found]
        return float(np.mean(off)), float(np.std(off, ddof=1) / np.sqrt(deals))


def of_clouds() -> Pool:
    drawn = cloud(np.random.default_rng(1), kinds=4, groups=18, each=2)
    return Pool(drawn.features, list(drawn.classes), list(drawn.groups))


@pytest.fixture(scope="module")
def renders() -> Pool:
    """Of tests/data/parts.webp (see test_planted_failures.py): six classes of 20 parts, two images each, 64 px."""
    sheet = Image.open(ROOT / "tests/data/parts.webp").convert("RGB")
    places = [(x, y) for y in range(sheet.height // 64) for x in range(sheet.width // 64)]
    images = [sheet.crop((64 * x, 64 * y, 64 * x + 64, 64 * y + 64)) for x, y in places]
    encoder = load(str(ROOT / "models/base/reference_encoder"))
    seen = in_views(images, [str(place) for place in places])
    classes, groups = [f"c{y}" for _, y in places], [f"c{y}/{x // 2}" for x, y in places]
    return Pool(encoder(images), classes, groups, encoder(seen))


@pytest.fixture(scope="module")
def coins() -> Pool:
    """Of real photographs, six kinds of coin; an image of each source photograph, which is its group."""
    if not COINS.is_dir():
        pytest.skip("needs the photographs of /work/shared/coins")
    first: dict[tuple[str, str], Path] = {}
    for kind in ("coin-5c", "coin-10c", "coin-20c", "coin-50c", "coin-1e", "coin-2e"):
        for path in sorted((COINS / kind).glob("*.jpg")):
            first.setdefault((kind, f"{kind}/{path.name.split('_')[0]}"), path)
    images = [Image.open(path).convert("RGB") for path in first.values()]
    encoder = load(str(ROOT / "models/base/reference_encoder"))
    return Pool(encoder(images), [kind for kind, _ in first], [group for _, group in first])


def assert_uniform(pool: Pool, deals: int, score=drift_scores) -> None:
    rng = np.random.default_rng(0)
    found = [pool.percentiles("images", rng, score) for _ in range(deals)]
    for level in LEVELS:
        # percentiles lie on a grid of n + 1: the share of it that lies beyond the level
        beyond = [(p > level).mean() - 1 + np.floor(level * (n + 1) + 1e-9) / (n + 1) for p, n in found]
        error = np.std(beyond, ddof=1) / np.sqrt(deals)
        assert abs(np.mean(beyond)) < ERRORS * error + 1e-9, (level, np.mean(beyond), error)
        assert error < 0.03  # else the test could not tell


def test_held_out_clouds_are_uniform():
    assert_uniform(of_clouds(), 60)
    assert_uniform(of_clouds(), 60, strangeness_scores)


def test_held_out_renders_are_uniform(renders):
    assert_uniform(renders, 40)
    assert_uniform(renders, 40, strangeness_scores)


def test_held_out_photographs_are_uniform(coins):
    assert_uniform(coins, 40)


def test_earlier_calibrations_are_lenient(renders):
    """What the audit found (a real image's mean percentile .23 and .38), so that the tests above can fail."""
    off, error = renders.mean_off("pictures", 20)
    assert off < -0.05 and off < -ERRORS * error
    views, error = renders.mean_off("views", 20)
    assert views < -0.1 and views < -ERRORS * error
