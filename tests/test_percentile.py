"""benchmarks/percentile.py: uniform percentiles lie in the bands, others do not, and the bands know parts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import percentile
import pytest
import yaml
from helpers.shapes import CLASSES, make_project, shape
from PIL import Image

from partsynth.config.load import load_all
from partsynth.core.drift.calibration import conformal_percentiles
from partsynth.errors import UserError
from partsynth.quality.features import Encoder
from partsynth.quality.real_parts import measure_real
from partsynth.quality.score import score
from partsynth.records.manifest import read_manifest, write_manifest
from partsynth.records.rows import RealRecord
from partsynth.store.png import write_png

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(percentile, "DRAWS", 200)


def held(seed: int, off: float = 0.0, parts: int = 60, project: str = "") -> percentile.Held:
    """Two images per part, of one score with a little noise, and as many parts again that calibrate; ``off`` standard
    deviations higher than those."""
    rng = np.random.default_rng(seed)

    def scores(count: int) -> np.ndarray:
        return np.repeat(rng.normal(size=count), 2) + 0.1 * rng.normal(size=2 * count)

    def names(kind: str) -> np.ndarray:
        return np.repeat([f"{project}{kind}{i:03d}" for i in range(parts)], 2)

    return percentile.Held(conformal_percentiles(scores(parts) + off, scores(parts)), names("held"), names("known"))


def test_uniform_percentiles_lie_in_the_bands_and_lenient_ones_do_not() -> None:
    uniform = percentile.summary([held(1, project="a"), held(2, project="b")])
    assert uniform["images"] == 240 and uniform["parts"] == 120 and uniform["calibrated_on"] == [120, 120]
    assert uniform["within_parts_band"] > 0.95
    lenient = percentile.summary([held(1, off=-0.8, project="a"), held(2, off=-0.8, project="b")])
    assert lenient["mean"] < 0.35 and lenient["within_parts_band"] < 0.3 and lenient["within_binomial"] < 0.3
    assert lenient["beyond_0.95"] < uniform["beyond_0.95"]


def test_images_of_one_part_and_of_several_projects_fall_alike() -> None:
    def width(band: tuple[np.ndarray, np.ndarray]) -> float:
        return float((band[1] - band[0]).mean())

    one, same, other = (
        percentile.by_parts(found)
        for found in ([held(1)], [held(1), held(1)], [held(1, project="a"), held(2, project="b")])
    )
    binomial = percentile.binomial(percentile.LEVELS, 120)
    assert width(one) > 1.3 * width(binomial)  # 60 parts among 60, not 120 images among endless ones
    assert width(same) == pytest.approx(width(one))  # the same images again tell nothing new
    assert width(other) < 0.85 * width(one)


def test_what_is_expected_lies_on_the_percentiles_grid() -> None:
    few = percentile.Held(np.array([0.5, 1.0]), np.array(["x", "y"]), np.array(["a", "b", "c"]))
    assert percentile.expected(0.5, [few]) == 0.5 and percentile.expected(0.74, [few]) == 0.5
    assert percentile.expected(0.75, [few]) == 0.75


def test_the_picture_has_a_column_per_kind_and_the_table_its_shares() -> None:
    found = {name: percentile.summary([held(3)]) for name in percentile.TITLES}
    picture = Image.open(io.BytesIO(percentile.draw(found, "about")))
    assert picture.width > 1000 and picture.height > 700
    told = percentile.table(found)
    assert told.count("up to 0.95") == 2 and "120 of 60 parts" in told


def test_a_projects_test_images_are_placed_by_its_own_calibration(tmp_path: Path) -> None:
    root = make_project(tmp_path)
    reference = {"model": str(ROOT / "models/base/reference_encoder"), "batch_size": 8}
    params = {"reference": reference, "select": {"real": {"rule": "all"}}, "matrix": {"setups": ["real"]}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match="no test images"):
        percentile.of_project(root)
    known, rng, test = read_manifest(root / "data/real/manifest.csv", RealRecord), np.random.default_rng(1), []
    for name in CLASSES:
        for i, looks in enumerate((name, CLASSES[CLASSES.index(name) - 1])):  # the second is none of its class
            path = f"data/real/test/{name}/{i}.png"
            facts = {"path": path, "sha256": write_png(root / path, shape(looks, rng)), "group": f"test{name}{i}"}
            test.append(known[0].model_copy(update={**facts, "class_name": name, "split": "test"}))
    write_manifest(root / "data/real/manifest.csv", [*known, *test], RealRecord)
    found = percentile.of_project(root)
    assert len(found["train"].percentiles) == 15 and len(found["test"].percentiles) == 6
    assert {len(one.among) for one in found.values()} == {9} and not set(found["test"].parts) & set(found["test"].among)
    own, foreign = found["test"].percentiles[::2], found["test"].percentiles[1::2]
    assert foreign.mean() > own.mean() + 0.1

    loaded = load_all(root / "params.yaml")
    measured, views = measure_real(known, loaded.quality, root, Encoder(loaded.reference, root))
    train = [i for i, row in enumerate(known) if row.split == "train"]
    told, _ = score([known[i] for i in train], measured.take(train), known, measured, loaded.quality, views)
    np.testing.assert_array_equal(found["train"].percentiles, told.percentile)  # as the pipeline's own set `real`
